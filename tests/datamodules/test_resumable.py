"""How a loader's processes are started; its positions are tested in tests/callbacks/test_checkpoint.py."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from torch.utils.data import Dataset

from mstar.datamodules.resumable import ResumableLoader


class Parents(Dataset[int]):
    """Who started the process that builds a batch."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return os.getppid()


@pytest.fixture
def forkserver() -> Iterator[None]:
    """Python's own choice from 3.14 on."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("forkserver", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are started anew")
def test_its_processes_are_children_of_the_one_that_ends_them(forkserver: None) -> None:
    assert [batch.tolist() for batch in ResumableLoader(Parents(), num_workers=1)] == [[os.getpid()]]


def test_without_processes_there_is_nothing_to_start(forkserver: None) -> None:
    assert [batch.tolist() for batch in ResumableLoader(Parents(), num_workers=0)] == [[os.getppid()]]


class Blocked(Dataset[int]):
    """Whether the process that builds a batch leaves aside the signal that ends it."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("known", [True, False])
def test_a_worker_can_be_ended_where_the_sender_of_a_signal_is_unknown(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, which has no sigwaitinfo."""
    if not known:
        monkeypatch.delattr(signal, "sigwaitinfo", raising=False)
    elif not hasattr(signal, "sigwaitinfo"):
        pytest.skip("this system does not tell who sent a signal")
    assert [batch.tolist() for batch in ResumableLoader(Blocked(), num_workers=1)] == [[known]]
