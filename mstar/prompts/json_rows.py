"""Rows as they stand in the data, and those of JSON files: lines and lists are read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mstar.errors import DataError
from mstar.prompts.quarantine import Reason, RowError

__all__ = ["JsonRows", "RawRow", "RawRows", "identify"]

_CHUNK: Final = 1 << 20
# Under which keys an object has its rows, beside the name of the split.
_CONTAINERS: Final = ("data", "rows", "examples", "questions", "instances", "annotations", "items")


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


class JsonRows:
    """The rows of a file of JSON lines, of a JSON list, or of one JSON object; the first two are read piece by piece.

    An object has its rows under the name of the split, under ``data`` or the like, or as its values; a row that is a
    value has its key as ``_key``.

    Args:
        path: The file.
        split: The split, of an object with several.
    """

    def __init__(self, path: Path, split: str = "train") -> None:
        self.path = path
        self.split = split

    @property
    def fingerprint(self) -> str:
        """Place, size and time of the file."""
        return identify(self.path) if self.split == "train" else f"{identify(self.path)}:{self.split}"

    def columns(self) -> list[str]:
        """The keys of all its rows."""
        found: dict[str, None] = {}
        for row in self:
            found.update(dict.fromkeys(row.values))
        return list(found)

    def __iter__(self) -> Iterator[RawRow]:
        with self.path.open("rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        whole = self._object() if start.startswith(b"{") and self.path.suffix.lower() == ".json" else None
        values = whole if whole is not None else self._list() if start.startswith(b"[") else self._lines()
        for number, value in enumerate(values):
            if isinstance(value, RowError):
                yield RawRow(number, {}, value, str(value))
            elif isinstance(value, dict):
                yield RawRow(number, value)
            else:
                detail = f"the row is a {type(value).__name__}, not an object"
                yield RawRow(number, {}, RowError(Reason.WRONG_TYPE, detail), str(value)[:200])

    def _lines(self) -> Iterator[Any]:
        with self.path.open("rb") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    yield json.loads(line.removeprefix(b"\xef\xbb\xbf"))
                except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
                    yield RowError(Reason.MALFORMED, f"no JSON: {error}")

    def _object(self) -> Iterator[Any] | None:
        """The rows of a file that is one JSON object; None if it is JSON lines."""
        with self.path.open("rb") as file:
            line = next((line for line in file if line.strip()), b"")
            several = any(line.strip() for line in file)
        try:
            first = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except (ValueError, RecursionError):
            first = None
        if first is not None and several:
            return None
        try:
            value = json.loads(self.path.read_bytes().removeprefix(b"\xef\xbb\xbf")) if first is None else first
        except (ValueError, RecursionError):
            return None
        rows = _find_rows(value, self.split)
        return iter([value] if rows is None else rows)

    def _list(self) -> Iterator[Any]:
        """The elements of a JSON list, without reading the whole of it."""
        decoder = json.JSONDecoder()
        with self.path.open(encoding="utf-8-sig") as file:
            buffer = self._read(file).lstrip()
            position, ended, number = 1, False, 0
            while True:
                position = _skip(buffer, position, " \t\r\n," if number else " \t\r\n")
                if position < len(buffer) and buffer[position] == "]":
                    return
                try:
                    value, end = decoder.raw_decode(buffer, position)
                    whole = end < len(buffer) or ended
                except (ValueError, RecursionError) as error:
                    value, end, whole = error, position, False
                if whole:
                    yield value
                    number += 1
                    position = end
                    continue
                if ended:
                    raise DataError(
                        f"'{self.path}' is a JSON list that breaks off or is damaged in row {number} ({value}); mend "
                        "the file or get it again."
                    )
                more = self._read(file)
                ended = not more
                buffer, position = buffer[position:] + more, 0

    def _read(self, file: Any) -> str:
        try:
            return str(file.read(_CHUNK))
        except UnicodeDecodeError as error:
            raise DataError(f"'{self.path}' is not UTF-8 text ({error}); convert it.") from error


def _find_rows(value: Mapping[str, Any], split: str) -> list[Any] | None:
    for name in (split, *_CONTAINERS):
        if (rows := _as_rows(value.get(name))) is not None:
            return rows
    if (rows := _as_rows(value)) is not None:
        return rows
    lists = [rows for item in value.values() if isinstance(item, list) and (rows := _as_rows(item)) is not None]
    return lists[0] if len(lists) == 1 else None


def _as_rows(value: Any) -> list[Any] | None:
    if isinstance(value, Mapping) and value and all(isinstance(item, dict) for item in value.values()):
        return [{"_key": key, **item} for key, item in value.items()]
    return value if isinstance(value, list) and value and all(isinstance(item, dict) for item in value) else None


def _skip(text: str, position: int, skipped: str) -> int:
    while position < len(text) and text[position] in skipped:
        position += 1
    return position
