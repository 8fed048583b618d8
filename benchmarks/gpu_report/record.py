"""The report as data: parts, their rows, and the file that they are kept in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["PartResult", "Report", "Row", "Value", "read_rows"]

Value = float | int | str | None


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: What was measured.
        figures: Its figures by name and unit; None where the device has none (memory of a CPU).
        problem: Why there are none, or what is wrong with them; the part has failed then.
        left_out: Why it was not measured, where that is no failure (a package is not installed).
    """

    what: str
    figures: Mapping[str, Value] = field(default_factory=dict)
    problem: str | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class PartResult:
    """What came of one part.

    Attributes:
        name: The part.
        rows: Its rows, as far as it came.
        seconds: How long it took, its start included.
        problem: Why it failed; None if it did not.
        commit: The commit that it ran.
        when: When it ended, UTC.
    """

    name: str
    rows: tuple[Row, ...]
    seconds: float
    problem: str | None
    commit: str
    when: str


class Report:
    """The results of one card and day; parts that run again take the place of their former results.

    Args:
        path: The JSON file; what it holds already is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"parts": []}
        self.parts = {part["name"]: _read_part(part) for part in held["parts"]}

    def add(self, result: PartResult, environment: Mapping[str, str]) -> None:
        """Takes in the results of a part, and writes the file."""
        self.parts[result.name] = result
        content = {"environment": dict(environment), "parts": [asdict(part) for part in self.parts.values()]}
        temporary = self.path.with_suffix(".json.part")
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows that a part has written, one a line; the last one may have been cut off."""
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return tuple(Row(**json.loads(line)) for line in lines if line.endswith("\n"))


def _read_part(held: Mapping[str, Any]) -> PartResult:
    return PartResult(**{**held, "rows": tuple(Row(**row) for row in held["rows"])})
