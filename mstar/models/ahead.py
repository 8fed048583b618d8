"""The inputs of a batch are prepared while the batch before it is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

B = TypeVar("B")
T = TypeVar("T")


class Ahead(Generic[B, T]):
    """Prepares batches, within a ``with``; after it nothing runs on.

    A GPU would wait while pictures are prepared for it, often for as long as it computes.

    Args:
        prepare: Makes the inputs of a batch, on the host alone. Nobody else may use its tokenizer meanwhile.
        threaded: Whether a thread prepares the next batch meanwhile. Not on a CPU, which is what computes.
    """

    def __init__(self, prepare: Callable[[B], T], *, threaded: bool) -> None:
        self._prepare = prepare
        self._pool = ThreadPoolExecutor(1) if threaded else None
        self._begun: tuple[B, Future[T]] | None = None

    def __enter__(self) -> Ahead[B, T]:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def take(self, batch: B, later: B | None) -> T:
        """The inputs of a batch, or what its preparing raised; that of the later one begins.

        Args:
            later: What is likely to be asked for next; None for nothing.
        """
        if self._pool is None:
            return self._prepare(batch)
        if self._begun is not None and self._begun[0] == batch:
            present = self._begun[1]
        else:
            present = self._pool.submit(self._prepare, batch)
        self._begun = None if later is None else (later, self._pool.submit(self._prepare, later))
        return present.result()
