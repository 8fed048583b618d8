"""A data loader that knows how far it is."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

from mstar.errors import DataError

T = TypeVar("T", covariant=True)


class ResumableLoader(DataLoader[T]):
    """A DataLoader that a checkpoint within an epoch can be resumed with: its position is the batches handed out.

    Batches that were handed out before are skipped without being built. The order must follow from the sampler's seed
    and epoch. It begins to work when the first batch is asked for, not before: Lightning makes the iterator early,
    before it has told the sampler the epoch.

    Args:
        arguments: Those of DataLoader.
        options: Those of DataLoader.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # With a generator of its own, a loader does not draw from the global one, whose numbers are dropout's.
        options.setdefault("generator", torch.Generator().manual_seed(0))
        options.setdefault("worker_init_fn", _outlive_stop)
        options.setdefault("multiprocessing_context", worker_start(options.get("num_workers", 0)))
        super().__init__(*arguments, **options)
        self._begin = 0
        self._handed_out = 0

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        """Hands out batches, from the position that was restored.

        Raises:
            DataError: a process that builds batches died.
        """
        self._handed_out = self._begin
        try:
            for batch in self.make_batches():
                self._begin = 0
                self._handed_out += 1
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error) or "Caught" in str(error):
                raise
            raise DataError(
                f"a process that builds batches died ({str(error).splitlines()[0]}): it may have run out of memory or "
                "shared memory; lower data.num_workers, and run the same command again; a fit goes on."
            ) from error
        self.rewind()

    def make_batches(self) -> Iterator[T]:
        """The batches from the position on, as they are made."""
        return super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """The position; the end of an epoch is the beginning of the next."""
        return {"batches": self._handed_out % max(len(self), 1)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on from a position."""
        self._begin = self._handed_out = state_dict["batches"]

    def rewind(self) -> None:
        """Goes back to the beginning."""
        self._begin = self._handed_out = 0

    @property
    def draws_to_skip(self) -> int:
        """How many of the sampler's draws have been handed out whole; here, one draw is one batch."""
        return self._begin

    @property
    def _index_sampler(self) -> Any:
        # The one place where DataLoader asks for what comes next, with and without worker processes.
        return _Rest(super()._index_sampler, self)


def worker_start(num_workers: int) -> str | None:
    """How a loader's processes are started; None is Python's choice.

    On Linux that is a fork server from Python 3.14 on: its processes import torch and Transformers anew in every epoch,
    and are no children of the one that ends them.
    """
    return "fork" if num_workers and sys.platform == "linux" else None


def _outlive_stop(worker: int) -> None:
    """Leaves signals that stop the whole process group to the main process, which still needs its batches.

    Launchers such as torchrun send them to every process; torch would end the worker, and the main process with it.
    On macOS nothing tells who sent a signal, and the worker goes on as torch has it.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})
    parent = os.getppid()

    def wait_for_parent() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        # The loader ends its workers by this signal.
        os._exit(0)

    threading.Thread(target=wait_for_parent, daemon=True).start()


class _Rest:
    """A loader's sampler from its position on; its length is that of the whole, as an epoch's is."""

    def __init__(self, sampler: Iterable[Any], loader: ResumableLoader[Any]) -> None:
        self.sampler = sampler
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        # A generator, because DataLoader makes iterators that it does not use, and keeps this object between epochs.
        yield from islice(iter(self.sampler), self.loader.draws_to_skip, None)

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]
