"""What counts as too little memory, and what comes of it."""

from __future__ import annotations

import logging

import pytest
import torch

from mstar.models.offload import within_memory


def failing(error: RuntimeError) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_batch_for_which_the_memory_is_short_is_nothing_and_says_so(
    error: RuntimeError, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert within_memory(lambda: failing(error), 5, "Reward: batch_size") is None
    assert caplog.messages == ["Memory is short for 5 responses at a time: going on with 2 (Reward: batch_size)"]
    # One response cannot be halved.
    with pytest.raises(type(error)):
        within_memory(lambda: failing(error), 1, "Reward: batch_size")


def test_other_errors_are_errors() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        within_memory(lambda: failing(RuntimeError("mat1 and mat2 shapes cannot be multiplied")), 4, "")


def test_the_error_of_a_real_allocation_is_one() -> None:
    assert within_memory(lambda: torch.empty(2**52), 2, "") is None
    assert within_memory(lambda: "done", 2, "") == "done"
