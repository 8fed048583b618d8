"""What an account of memory is made of, named amounts by stage of a run, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


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


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f}" if num_bytes < 10**10 else f"{num_bytes / 1e9:.1f}"


def render(account: Account) -> str:
    """The whole account, a line an amount."""
    what = "one GPU" if account.device == "cuda" else "one process"
    lines = [account.model, account.places, ""]
    lines += _table(f"{what}, by stage (GB = 10^9 bytes; estimates)", account.stages)
    if account.host:
        lines += ["", *_table("main memory of one machine", account.host)]
    if account.disk:
        lines += ["", "disk of the run"]
        lines += _lines(account.disk)
        lines.append(f"  {'total':<58}{_gb(account.disk_bytes):>9}")
    lines += ["", *(f"- {sentence}" for sentence in account.assumptions), "", verdict(account)]
    return "\n".join(lines) + "\n"


def _table(title: str, stages: tuple[Stage, ...]) -> list[str]:
    lines = [title]
    for item in stages:
        lines.append(f"  {item.name:<58}{_gb(item.total):>9}")
        lines += ["  " + line for line in _lines(item.amounts)]
    return lines


def _lines(amounts: tuple[Amount, ...]) -> list[str]:
    return [f"  {amount.name:<58}{_gb(amount.num_bytes):>9}" for amount in amounts if amount.num_bytes >= 10**7]


def verdict(account: Account) -> str:
    """Whether it fits, in a sentence."""
    peak = account.peak
    what = "a GPU" if account.device == "cuda" else "the machine"
    said = f"peak: {_gb(peak.total)} GB ({peak.name})"
    if account.capacity is None:
        return f"{said}; the memory of {what} is not known."
    has = f"{what} has {_gb(account.capacity)} GB"
    if account.fault is not None:
        return f"{said}: {has}, but {account.fault}."
    if account.surest.certain > account.capacity:
        sure = account.surest
        return f"{said}: {has}, and {sure.certain_names} alone take {_gb(sure.certain)} GB."
    if peak.total > account.capacity:
        return f"{said}: {has}; by this estimate it does not fit."
    if peak.total > 0.9 * account.capacity:
        return f"{said}: {has}; that is close."
    return f"{said}: {has}; it fits."


def summary(account: Account) -> str:
    """Two lines for the beginning of a fit."""
    what = "a GPU" if account.device == "cuda" else "a process"
    stages = {item.name: item.total for item in account.stages if item.name not in {"start", "checkpoint"}}
    parts = ", ".join(f"{name} {_gb(total)}" for name, total in stages.items())
    disk = f"; disk {_gb(account.disk_bytes)}" if account.disk else ""
    capacity = "" if account.capacity is None else f" of {_gb(account.capacity)}"
    return (
        f"memory of {what} (estimate, GB): {parts}{capacity}{disk}\n"
        f"memory: {account.assumptions[0]}; python -m mstar memory shows the whole account"
    )


def as_json(account: Account) -> dict[str, Any]:
    """The account as plain values, in bytes."""
    return {
        "model": account.model,
        "device": account.device,
        "places": account.places,
        "peak_bytes": account.peak.total,
        "peak_stage": account.peak.name,
        "certain_bytes": account.surest.certain,
        "capacity_bytes": account.capacity,
        "disk_bytes": account.disk_bytes,
        "stages": {item.name: _amounts(item.amounts) for item in account.stages},
        "host": {item.name: _amounts(item.amounts) for item in account.host},
        "disk": _amounts(account.disk),
        "assumptions": list(account.assumptions),
        "fault": account.fault,
    }


def _amounts(amounts: tuple[Amount, ...]) -> dict[str, int]:
    return {amount.name: amount.num_bytes for amount in amounts}
