"""What an account of memory is made of: named amounts, by stage of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Amount:
    """Something that takes memory.

    Attributes:
        certain: Whether it follows from numbers of weights alone; other amounts are estimates that depend on the data.
        heap: Whether it comes and goes in blocks that, on a CPU, the C library's heap keeps when they are freed.
    """

    name: str
    num_bytes: int
    certain: bool = False
    heap: bool = False


@dataclass(frozen=True)
class Stage:
    """What is in memory at the peak of one stage.

    Attributes:
        name: start, generate, score, refresh, train, step, checkpoint or export.
        amounts: What there is; nothing twice.
    """

    name: str
    amounts: tuple[Amount, ...]

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return sum(amount.num_bytes for amount in self.amounts)

    @property
    def certain(self) -> int:
        """What of it is certain, in bytes."""
        return sum(amount.num_bytes for amount in self.amounts if amount.certain)

    @property
    def certain_names(self) -> str:
        """What of it is certain, in words."""
        names = [amount.name for amount in self.amounts if amount.certain]
        return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def stage(name: str, *amounts: Amount | Iterable[Amount]) -> Stage:
    """A stage without amounts that are nothing."""
    flat: list[Amount] = []
    for given in amounts:
        flat += [given] if isinstance(given, Amount) else given
    return Stage(name, tuple(amount for amount in flat if amount.num_bytes > 0))


@dataclass(frozen=True)
class Account:
    """The memory of a run.

    Attributes:
        device: cuda or cpu. On a CPU the stages are those of a process, whose memory is the machine's.
        places: GPUs (or, on a CPU, processes) of the run, in words.
        stages: What is on one GPU, or in one process, in the order in which the stages come.
        host: What is in the memory of one machine beside its GPUs; empty on a CPU.
        capacity: Bytes of one GPU, or of the machine for one process; None if that is not known.
        fault: Why the run cannot work however much of that is free; None if nothing is known.
    """

    model: str
    device: str
    places: str
    stages: tuple[Stage, ...]
    host: tuple[Stage, ...]
    disk: tuple[Amount, ...]
    capacity: int | None
    assumptions: tuple[str, ...]
    fault: str | None = None

    @property
    def peak(self) -> Stage:
        """The stage that takes most."""
        return max(self.stages, key=lambda item: item.total)

    @property
    def surest(self) -> Stage:
        """The stage that certainly takes most."""
        return max(self.stages, key=lambda item: item.certain)

    @property
    def disk_bytes(self) -> int:
        """All that is left on the disk."""
        return sum(amount.num_bytes for amount in self.disk)
