"""Rows of JSON lines or of a JSON list, read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mstar.errors import DataError
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.raw_rows import RawRow, identify

__all__ = ["JsonFolder", "JsonRows"]

_CHUNK: Final = 1 << 20
_LOOK_AHEAD: Final = 1000


class JsonRows:
    """The rows of a file of JSON lines, or of one JSON list; the file is read piece by piece.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def fingerprint(self) -> str:
        """Place, size and time of the file."""
        return identify(self.path)

    def columns(self) -> list[str]:
        """The keys of its first rows."""
        found: dict[str, None] = {}
        for row in self:
            if row.number >= _LOOK_AHEAD:
                break
            found.update(dict.fromkeys(row.values))
        return list(found)

    def __iter__(self) -> Iterator[RawRow]:
        with self.path.open("rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        values = self._list() if start.startswith(b"[") else self._lines()
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


class JsonFolder:
    """The rows of several JSON files, one file after the other.

    Args:
        files: The files.
    """

    def __init__(self, files: Sequence[JsonRows]) -> None:
        self.files = files

    @property
    def fingerprint(self) -> str:
        """Those of the files."""
        return "|".join(file.fingerprint for file in self.files)

    def columns(self) -> list[str]:
        """The keys of the files' first rows."""
        return list(dict.fromkeys(name for file in self.files for name in file.columns()))

    def __iter__(self) -> Iterator[RawRow]:
        number = 0
        for file in self.files:
            for row in file:
                yield replace(row, number=number)
                number += 1


def _skip(text: str, position: int, skipped: str) -> int:
    while position < len(text) and text[position] in skipped:
        position += 1
    return position
