"""What the C library's heap keeps on a CPU beyond what is in use.

Blocks under 32 MB come from the heap, which gives little back to the system when they are freed: what a forward pass
took is still there while the optimizer steps, and another stage takes its place. Between blocks in use there are holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mstar.memory.account import Amount, Stage

# Share of holes, measured on x86-64 with glibc 2.36; tests/memory/test_real_peaks.py holds it.
_HOLES: Final = 0.08


def with_heap(stages: Sequence[Stage], base: str) -> list[Stage]:
    """The stages of a process on a CPU, with what its heap keeps.

    Args:
        stages: The stages; the first comes before anything was freed.
        base: Name of the amount that the process has without a model.
    """
    most = max(_passing(item) for item in stages)
    result = []
    for number, item in enumerate(stages):
        left = Amount("heap, kept from other stages", max(0, most - _passing(item)) if number else 0)
        used = sum(amount.num_bytes for amount in item.amounts if amount.name != base)
        holes = Amount("holes in the heap", int(_HOLES * (used + left.num_bytes)))
        kept = tuple(amount for amount in (left, holes) if amount.num_bytes > 0)
        result.append(Stage(item.name, (*item.amounts, *kept)))
    return result


def _passing(item: Stage) -> int:
    return sum(amount.num_bytes for amount in item.amounts if amount.heap)
