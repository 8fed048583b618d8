"""What a part measures with: the device, the clock, the memory's peak, and where its rows go."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_report.record import Row, Value

__all__ = ["Bench", "LeftOut", "Measured"]


class LeftOut(Exception):
    """What is not measured here, and why: a package is missing, the disk is too small."""


@dataclass
class Measured:
    """What a ``with`` block took.

    Attributes:
        seconds: Wall time, until the device had done its work.
        peak_gb: Largest memory of all tensors on the device meanwhile (10^9 bytes); None on a CPU.
    """

    seconds: float = 0.0
    peak_gb: float | None = None


class Bench:
    """One run of one part.

    Args:
        device: cpu or cuda.
        small: Whether models and batches are tiny: a rehearsal, whose figures mean nothing.
        rows: The file that each row is appended to at once, so that a part that is stopped leaves what it has.
        scratch: An empty folder for models and checkpoints.
    """

    def __init__(self, device: str, small: bool, rows: Path, scratch: Path) -> None:
        self.device = device
        self.small = small
        self.scratch = scratch
        self._rows = rows

    def on(self, device: str) -> Bench:
        """The same on another device."""
        return Bench(device, self.small, self._rows, self.scratch)

    def note(self, what: str, figures: Mapping[str, Value], *, problem: str | None = None) -> None:
        """Writes down a row.

        Args:
            what: What was measured.
            figures: By name and unit; numbers are rounded to four figures.
            problem: What is wrong with them, if anything.
        """
        self._append(Row(what, {name: _rounded(value) for name, value in figures.items()}, problem))

    @contextmanager
    def row(self, what: str) -> Iterator[None]:
        """Work for some rows: if it fails that is written down, and the part goes on."""
        self.free()
        try:
            yield
        except LeftOut as reason:
            self._append(Row(what, left_out=str(reason)))
        except Exception as error:
            # The boundary of a measurement: another one may well work, and the report says what did not.
            self._append(Row(what, problem=_sentence(error)))
            _release(error)
        self.free()

    @contextmanager
    def measured(self) -> Iterator[Measured]:
        """Measures a block: seconds and peak memory."""
        found = Measured()
        self.synchronize()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        yield found
        self.synchronize()
        found.seconds = time.perf_counter() - begin
        found.peak_gb = self.peak_gb()

    def timed(self, work: Callable[[], Any], rounds: int = 3) -> Measured:
        """The fastest of some rounds, after one that does not count; and the peak of all of them."""
        work()
        best = Measured(float("inf"))
        for _ in range(rounds):
            with self.measured() as found:
                work()
            peak = None if found.peak_gb is None else max(found.peak_gb, best.peak_gb or 0.0)
            best = Measured(min(best.seconds, found.seconds), peak)
        return best

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak_gb(self) -> float | None:
        """The peak since the measurement began."""
        return torch.cuda.max_memory_allocated() / 1e9 if self.device == "cuda" else None

    def held_gb(self) -> float | None:
        """What tensors hold now."""
        return torch.cuda.memory_allocated() / 1e9 if self.device == "cuda" else None

    def free(self) -> None:
        """Gives back what nothing refers to any more."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _append(self, row: Row) -> None:
        with self._rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        figures = ", ".join(f"{name} {value}" for name, value in row.figures.items())
        sys.stdout.write(f"  {row.what}: {row.problem or row.left_out or figures}\n")
        sys.stdout.flush()


def _release(error: BaseException) -> None:
    """Lets go of the tensors that an error's frames hold."""
    error.__traceback__ = error.__context__ = error.__cause__ = None


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _rounded(value: Value) -> Value:
    return float(f"{value:.4g}") if isinstance(value, float) else value
