"""Work shared by several processes: who does which shard, and how results come together.

Without an initialised process group every function behaves as for a single process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.distributed as dist

__all__ = ["gather_lists", "is_main", "rank", "wait_for_all", "world_size"]

T = TypeVar("T")


def _active() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if _active() else 1


def is_main() -> bool:
    """Whether this is process 0, the one that writes what is written once."""
    return rank() == 0


def wait_for_all() -> None:
    """Returns when every process has got here."""
    if _active():
        dist.barrier()


def gather_lists(items: Sequence[T]) -> list[T]:
    """All processes' items, those of process 0 first; the same list on every process."""
    if not _active():
        return list(items)
    parts: list[list[T] | None] = [None] * world_size()
    dist.all_gather_object(parts, list(items))
    return [item for part in parts if part is not None for item in part]
