"""The process itself: what it takes before any model, what its heap keeps, and how much memory there is for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mstar.memory.account import Amount, Stage

# Code that PyTorch loads when it first computes, measured on x86-64 with torch 2.13.
CPU_LIBRARIES: Final = 60 * 10**6
# Context, cuBLAS's workspaces and loaded kernels; an estimate.
CUDA_CONTEXT: Final = 1_200 * 10**6
# Share of holes in the heap, measured on x86-64 with glibc 2.36; tests/memory/test_real_peaks.py holds it.
_HOLES: Final = 0.08

# By the kind of the control groups: where they are, and the file of the most memory ("max": no limit).
_LIMITS: Final = {"": ("", "memory.max"), "memory": ("memory", "memory.limit_in_bytes")}


def resident_bytes() -> int:
    """What this process holds now (Linux; elsewhere a typical value of a process with PyTorch and Transformers)."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 450 * 10**6


def machine_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may have at most: the machine's, or that of its control group or one above it."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, name = line.split(":", 2)
            # Of the second version there is one hierarchy, of the first one for each kind.
            if kinds in _LIMITS:
                # In a container the group may have the host's name, and stand at the top.
                for group in (path := Path(name.lstrip("/")), *path.parents):
                    folder, file = _LIMITS[kinds]
                    with suppress(OSError, ValueError):
                        limits.append(int((root / "sys/fs/cgroup" / folder / group / file).read_text(encoding="ascii")))
    return min(limits)


def with_heap(stages: Sequence[Stage], base: str) -> list[Stage]:
    """The stages of a process on a CPU, with what the C library's heap keeps beyond what is in use.

    Blocks under 32 MB come from the heap, which gives little back to the system when they are freed: what a forward
    pass took is still there while the optimizer steps, and another stage takes its place. Between blocks in use there
    are holes.

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
