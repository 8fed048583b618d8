"""Rows of a user's file, one at a time: JSON lines, a JSON list, Parquet, or a Hugging Face data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mstar.errors import DataError
from mstar.prompts.quarantine import Reason, RowError

__all__ = ["JsonRows", "RawRow", "RawRows", "TableRows", "open_rows"]

_JSON: Final = (".json", ".jsonl", ".ndjson")
_CHUNK: Final = 1 << 20
_BATCH: Final = 256
_LOOK_AHEAD: Final = 1000


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
        """The columns found (of JSON, in its first 1,000 rows)."""

    def __iter__(self) -> Iterator[RawRow]: ...


def open_rows(path: str, split: str = "train") -> RawRows:
    """Finds out what a path is.

    Args:
        path: A ``.jsonl`` or ``.json`` file, a ``.parquet`` file or a folder of them, a folder that ``datasets`` saved,
            or the id of a Hugging Face data set.
        split: The split, of a saved folder with several or of a Hugging Face id.

    Raises:
        DataError: there is nothing there, or nothing that can be read.
    """
    location = Path(path)
    if location.is_file() and location.suffix.lower() in _JSON:
        return JsonRows(location)
    return TableRows(_load_table(path, split))


def _load_table(path: str, split: str) -> Any:
    import datasets

    location = Path(path)
    try:
        if location.is_file() and location.suffix.lower() == ".parquet":
            return _quiet_load("parquet", data_files=str(location), split="train")
        if location.is_dir():
            if (location / "dataset_dict.json").is_file() or (location / "dataset_info.json").is_file():
                found = datasets.load_from_disk(str(location))
                if not isinstance(found, datasets.DatasetDict):
                    return found
                if split not in found:
                    raise DataError(f"'{path}' has no split '{split}'; it has {sorted(found)}.")
                return found[split]
            files = sorted(str(file) for file in location.rglob("*.parquet"))
            named = [file for file in files if Path(file).name.startswith((f"{split}-", f"{split}."))] or files
            if files:
                return _quiet_load("parquet", data_files=named, split="train")
            raise DataError(f"'{path}' is a folder without Parquet files and was not saved by datasets; name the file.")
        if location.exists() or location.suffix or path.count("/") != 1:
            reason = "is neither JSON (.json, .jsonl) nor Parquet" if location.exists() else "does not exist"
            raise DataError(f"the data file '{path}' {reason}; check the path.")
        return _quiet_load(path, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"the data set '{path}' cannot be loaded ({reason}); check the path and the split.") from error


def _quiet_load(name: str, **arguments: Any) -> Any:
    import datasets

    shown = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, **arguments)
    finally:
        if shown:
            datasets.enable_progress_bars()


class TableRows:
    """The rows of a ``datasets.Dataset``, with its pictures undecoded; the table is memory-mapped.

    Args:
        data: The data set.
    """

    def __init__(self, data: Any) -> None:
        self.data = _keep_encoded(data)

    @property
    def fingerprint(self) -> str:
        """The data set's own."""
        return str(self.data._fingerprint)

    def columns(self) -> list[str]:
        """Its columns."""
        return list(self.data.column_names)

    def __iter__(self) -> Iterator[RawRow]:
        number = 0
        for batch in self.data.iter(batch_size=_BATCH):
            for values in zip(*batch.values(), strict=True):
                yield RawRow(number, dict(zip(batch, values, strict=True)))
                number += 1


def _keep_encoded(data: Any) -> Any:
    from datasets import Image, List, Sequence

    for column, feature in data.features.items():
        inner = getattr(feature, "feature", None)
        if isinstance(feature, Image):
            data = data.cast_column(column, Image(decode=False))
        elif isinstance(feature, List | Sequence) and isinstance(inner, Image):
            data = data.cast_column(column, List(Image(decode=False)))
    return data


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
        facts = self.path.stat()
        return f"{self.path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"

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


def _skip(text: str, position: int, skipped: str) -> int:
    while position < len(text) and text[position] in skipped:
        position += 1
    return position
