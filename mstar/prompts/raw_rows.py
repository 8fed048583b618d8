"""Rows of a user's data, one at a time, as they stand in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mstar.prompts.quarantine import RowError

__all__ = ["RawRow", "RawRows", "identify"]


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in the file.

    Attributes:
        number: Its number, from 0.
        values: Its values by column; empty if it could not be read.
        error: Why it could not be read.
        text: What stands there instead.
    """

    number: int
    values: Mapping[str, Any]
    error: RowError | None = None
    text: str = ""


class RawRows(Protocol):
    """The rows of one data set, in order."""

    @property
    def fingerprint(self) -> str:
        """Changes when the data changes."""

    def columns(self) -> list[str]:
        """The columns found."""

    def __iter__(self) -> Iterator[RawRow]: ...


def identify(path: Path) -> str:
    """Place, size and time of a file, which change when its content does."""
    facts = path.stat()
    return f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"
