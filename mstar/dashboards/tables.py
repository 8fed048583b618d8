"""The tables of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Its text; None for a dash.
        share: The length of a bar under it, in [0, 1]; None for no bar.
        small: A second text, set smaller.
        strong: Whether it is bold.
    """

    text: str | None
    share: float | None = None
    small: str = ""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: a name, which may have a tag beside it, and cells, or a remark in their place."""

    name: object
    cells: Sequence[Cell] = ()
    tag: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the names of its columns, and its rows."""

    head: Sequence[str]
    rows: Sequence[Row]


def cell(value: Any, show: Show, *, strong: bool = False) -> Cell:
    """A cell with a number, or a dash for anything else."""
    return Cell(show(value) if is_number(value) else None, strong=strong)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    # NaN and the infinities differ from themselves when subtracted.
    return isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}
