"""What counts as too little memory."""

from __future__ import annotations

import pytest
import torch

from mstar.models.out_of_memory import is_out_of_memory, release_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error: RuntimeError, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_error_of_a_real_allocation_is_one() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**52)
    assert is_out_of_memory(raised.value)
    release_memory()
