"""Work shared by several processes: who does which shard, how results come together, and what if a process is lost.

Without an initialised process group every function behaves as for a single process.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import reduce
from operator import add
from pathlib import Path
from signal import Signals
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist

from mstar.errors import ConfigError, DataError, ProcessLostError
from mstar.interruption import Interrupted, requested
from mstar.provenance import claim

S = TypeVar("S")
T = TypeVar("T")

# What is said of other devices, after the setting that names one.
ONLY_CUDA: Final = (
    "but here are only CPUs and CUDA to compute on (Apple's GPUs have no float64): leave it out, or set it to cpu."
)

# How long a process waits for the others between two stages. Their work may differ by hours, which the timeout of the
# training's own process group (30 minutes by default) must not cut short; a process that dies is noticed at once all
# the same, because its connections close.
_LONGEST_WAIT: Final = timedelta(hours=24)

# What the errors of gloo, NCCL and the store say when a process is gone, and do not say of other faults.
_LOSS: Final = re.compile(
    "connection (was likely )?closed|connection reset|broken pipe|timed out|timeout|remote (process|server)",
    re.IGNORECASE,
)

# The key by which the process that was asked to stop alone tells those that lose it.
_STOPPED: Final = "mstar/stopped_by"

# The groups for waiting and gathering, by their size, beside the process group that they were made for.
_waiting: tuple[Any, dict[int, Any]] | None = None


def _active() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if _active() else 1


def is_main() -> bool:
    """Whether this is process 0, the one that writes and says what is written and said once.

    Before the process group is initialised, the launcher's environment tells.
    """
    if _active():
        return rank() == 0
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", *(("SLURM_PROCID",) if _tasks_of_srun() > 1 else ()))
    return all(os.environ.get(name, "0") == "0" for name in names)


def _tasks_of_srun() -> int:
    """How many tasks srun alone has started, of which this process is one."""
    # A job's script and its shells (which have a terminal) are one each.
    if "WORLD_SIZE" in os.environ or "SLURM_PTY_PORT" in os.environ:
        return 1
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def wait_for_all() -> None:
    """Returns when every process has got here.

    Raises:
        ProcessLostError: another process has ended.
        Interrupted: another process has ended because it was asked to stop, or this one was asked, too.
    """
    if _active():
        with _noticing_loss():
            dist.monitored_barrier(_waiting_group(), timeout=_LONGEST_WAIT)


def require_shared(paths: Sequence[Path]) -> None:
    """Makes sure that this process sees files that others wrote.

    Raises:
        DataError: it does not see one.
    """
    for path in paths:
        if not path.exists():
            raise DataError(
                f"process {rank()} of {world_size()} does not see '{path}', which another one wrote: put the run "
                "(trainer.default_root_dir) on a file system that all processes share."
            )


def claim_together(folder: Path, facts: Mapping[str, Any], *, what: str, pattern: str) -> None:
    """Has the main process claim a folder, and then every process check the claim; see ``mstar.provenance.claim``."""
    if is_main():
        claim(folder, facts, what=what, pattern=pattern)
    wait_for_all()
    claim(folder, facts, what=what, pattern=pattern)


def gather_lists(items: Sequence[T]) -> list[T]:
    """All processes' items, those of process 0 first; the same list on every process."""
    if not _active():
        return list(items)
    wait_for_all()
    parts: list[list[T] | None] = [None] * world_size()
    with _noticing_loss():
        dist.all_gather_object(parts, list(items), group=_waiting_group())
    return [item for part in parts if part is not None for item in part]


def sum_all(own: T) -> T:
    """The sum of what the processes have, of anything that adds up; all must call it."""
    total: T = reduce(add, gather_lists([own]))
    return total


def from_main(value: T) -> T:
    """The main process's value, on every process."""
    return gather_lists([value])[0]


def takes_part(number: int, group_size: int = 1) -> bool:
    """Whether this process does a piece of work, numbered from 0: each is done by one group (``Engine.group_size``)."""
    return number % (world_size() // group_size) == rank() // group_size


def leads_group(group_size: int = 1) -> bool:
    """Whether this is the process of its group that writes, and hands on, what all of the group have made."""
    return rank() % group_size == 0


def by_leader(work: Callable[[], T], group_size: int = 1) -> T:
    """What some work gives to the process that leads this one's group; the others of it wait for it.

    What an engine's group is asked for next must not depend on what each has found for itself: a judge by address does
    not say the same twice, and a formula may run out of time in one process alone.
    """
    if group_size == 1:
        return work()
    found = [work() if leads_group(group_size) else None]
    with _noticing_loss():
        dist.broadcast_object_list(found, rank() // group_size * group_size, _waiting_group(group_size))
    value: T = found[0]  # type: ignore[assignment]
    return value


def by_shard(rows: Sequence[S], size: int, work: Callable[[Sequence[S]], Sequence[T]], group_size: int = 1) -> list[T]:
    """Does some work on rows shard by shard, each shard on one process, or one group of them.

    Args:
        size: Rows in a shard; the same for any number of processes where rounding depends on what is done together.
        group_size: Processes that work as one (``Engine.group_size``).

    Returns:
        The results of all shards, in the order of the rows; the same list on every process.
    """
    done: list[tuple[int, list[T]]] = []
    for number, start in enumerate(range(0, len(rows), size)):
        if takes_part(number, group_size):
            done.append((number, list(work(rows[start : start + size]))))
    all_done = gather_lists(done if leads_group(group_size) else [])
    return [item for _, part in sorted(all_done, key=lambda part: part[0]) for item in part]


def refuse_lone_tasks() -> None:
    """Makes sure that a command without a trainer is not one of several tasks of which each would do all of the work.

    Raises:
        ConfigError: srun alone started them.
    """
    if (tasks := _tasks_of_srun()) > 1:
        raise ConfigError(
            f"srun started {tasks} tasks, each of which would do all of the work: start torchrun by it, once a machine "
            "(srun --ntasks-per-node=1 torchrun ... -m mstar ...), or set WORLD_SIZE=1 where each has work of its own."
        )


@contextmanager
def joined_processes() -> Iterator[None]:
    """Within it, the processes that torchrun started for a command without a trainer share its work."""
    started = "MASTER_ADDR" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if _active() or not started:
        yield
        return
    dist.init_process_group("gloo", timeout=_LONGEST_WAIT)
    try:
        yield
    except Interrupted as interrupted:
        announce_stop(interrupted.received)
        raise
    finally:
        dist.destroy_process_group()


def find_device(name: str) -> str:
    """This process's device; a GPU becomes the current one.

    Args:
        name: ``auto`` (a GPU where there is one), or a device; of several GPUs of one machine, ``cuda`` is its own.

    Raises:
        ConfigError: it cannot be used.
    """
    if name.partition(":")[0] == "mps":
        raise ConfigError(f"device is {name}, {ONLY_CUDA}")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # PyTorch has another error for each reason: no GPU, none of that number, a build without CUDA, a wrong name.
        reason = str(error).partition(".")[0][:80]
        raise ConfigError(
            f"device '{device}' cannot be used ({reason}): leave device out, which takes a GPU where there is one."
        ) from error
    if device.startswith("cuda:"):
        # Triton's kernels start on the current device, wherever their tensors are.
        torch.cuda.set_device(device)
    return device


def announce_stop(received: Signals) -> None:
    """Leaves word for the other processes that this one was asked to end, as they shall be when they lose it."""
    if _active():
        # Where the process that keeps the words is gone, nobody can be told.
        with suppress(RuntimeError):
            dist.distributed_c10d._get_default_store().set(_STOPPED, str(int(received)))


def _stop_of_another() -> Signals | None:
    with suppress(RuntimeError):
        store = dist.distributed_c10d._get_default_store()
        if store.check([_STOPPED]):
            return Signals(int(store.get(_STOPPED)))
    return None


def find_lost_process(error: RuntimeError) -> ProcessLostError | None:
    """What to tell the user of an error, if it came from losing another process; else None."""
    text = str(error)
    # Where gloo loses a connection, torch raises a plain RuntimeError.
    if (isinstance(error, dist.DistError) or "gloo" in text) and _LOSS.search(text):
        return _lost(error)
    return None


def _lost(error: RuntimeError) -> ProcessLostError:
    text = str(error)
    named = re.search(r"Rank (\d+) failed to pass|send/recv from rank (\d+)", text)
    lost = named[1] or named[2] if named else str(1 - rank()) if world_size() == 2 else ""
    other = f"process {lost}" if lost else "another one"
    plain = named or re.search("connection (closed|reset)|broken pipe", text, re.IGNORECASE)
    reason = "" if plain else f" ({text.splitlines()[0] if text else type(error).__name__})"
    return ProcessLostError(
        f"process {rank()} of {world_size()} lost {other}, which ended or no longer answers{reason}: see what that one "
        "said last, then run the same command again; a fit goes on from what is written."
    )


@contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # All were asked to stop, and the other one did so first; or that one was.
        if received := requested() or _stop_of_another():
            raise Interrupted(received) from error
        raise _lost(error) from error


def _waiting_group(size: int = 0) -> Any:
    """The group of all processes, or the one of so many that this one is in."""
    global _waiting
    if _waiting is None or _waiting[0] is not dist.group.WORLD:
        _waiting = (dist.group.WORLD, {})
        atexit.unregister(_forget_waiting_group)
        atexit.register(_forget_waiting_group)
    groups, size = _waiting[1], size or world_size()
    if size not in groups:
        first = rank() // size * size
        # gloo, also beside NCCL: what is gathered are objects in the main memory.
        groups[size] = dist.new_group(
            range(first, first + size), _LONGEST_WAIT, "gloo", use_local_synchronization=size < world_size()
        )
    return groups[size]


def _forget_waiting_group() -> None:
    """Ends the group's threads before the interpreter ends: in its last moments they would abort the process."""
    global _waiting
    _waiting = None
