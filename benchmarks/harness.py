"""What the benchmarks share: two ways to do the same work, in turns, and the median of the rounds.

Rates are per second of this process's CPU time, which a busy machine disturbs less than the wall; both are shown.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

import torch

__all__ = ["MARK", "Comparison", "Figure", "compare", "note", "report", "single_thread"]

# Lines that begin with it are collected by run.py.
MARK: Final = "RESULT "


@dataclass(frozen=True)
class Comparison:
    """What came of one comparison.

    Attributes:
        name: What was measured.
        unit: Unit of the rates.
        ours: Our median rate per CPU second.
        theirs: The peer's.
        ratio: ours / theirs, by CPU time.
        wall_ratio: The same by wall time.
        target: The ratio that is aimed for; 0 for none.
        rounds: How often each was run.
    """

    name: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    wall_ratio: float
    target: float
    rounds: int


@dataclass(frozen=True)
class Figure:
    """What was measured of our side alone.

    Attributes:
        name: What was measured.
        unit: Its unit.
        value: The figure.
        target: What is aimed for, in words.
    """

    name: str
    unit: str
    value: float
    target: str


def single_thread() -> None:
    """Computes on one thread, as both sides must; a thread that waits would count as CPU time."""
    torch.set_num_threads(1)


def compare(
    name: str,
    unit: str,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    *,
    target: float = 0.0,
    rounds: int = 3,
) -> Comparison:
    """Runs two ways to do the same work in turns.

    Args:
        name: What is measured.
        unit: Unit of the amounts per second.
        ours: Does the work once and returns its amount (samples, tokens).
        theirs: The peer's way.
        target: The ratio that is aimed for.
        rounds: How often each is run, after a first time that does not count.
    """
    rates: dict[Callable[[], float], list[tuple[float, float]]] = {ours: [], theirs: []}
    for number in range(rounds + 1):
        # Neither always comes first.
        for run in (ours, theirs) if number % 2 else (theirs, ours):
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            amount = run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if number > 0:
                rates[run].append((amount / cpu, amount / wall))
    (our_cpu, our_wall), (their_cpu, their_wall) = (
        tuple(statistics.median(values) for values in zip(*rates[run], strict=True)) for run in (ours, theirs)
    )
    return Comparison(name, unit, our_cpu, their_cpu, our_cpu / their_cpu, our_wall / their_wall, target, rounds)


def report(result: Comparison) -> None:
    """Prints a comparison for people, and once more for run.py."""
    aim = f", target {result.target:g}" if result.target else ""
    sys.stdout.write(
        f"{result.name}: ours {result.ours:.4g}, theirs {result.theirs:.4g} {result.unit}; ratio {result.ratio:.2f} "
        f"(by wall time {result.wall_ratio:.2f}{aim}; {result.rounds} rounds)\n"
        f"{MARK}{json.dumps(asdict(result))}\n"
    )
    sys.stdout.flush()


def note(figure: Figure) -> None:
    """Prints a figure for people, and once more for run.py."""
    sys.stdout.write(
        f"{figure.name}: {figure.value:.4g} {figure.unit} (target: {figure.target})\n"
        f"{MARK}{json.dumps(asdict(figure))}\n"
    )
    sys.stdout.flush()
