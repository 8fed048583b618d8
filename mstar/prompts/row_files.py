"""The rows behind a path, and those of JSON files: lines and lists are read piece by piece."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from mstar.errors import DataError
from mstar.file_faults import find_fault
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.table_rows import CsvRows, ParquetRows, load_table
from mstar.provenance import identify_file

__all__ = ["JsonRows", "Row", "Rows", "folder_of", "open_rows"]

# The values of a row by column, or why it cannot be read.
Row = Mapping[str, Any] | RowError

_JSON: Final = (".json", ".jsonl", ".ndjson")
# In the order in which a folder is looked through.
_SUFFIXES: Final = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
# Under which keys an object has its rows, beside the name of the split.
_CONTAINERS: Final = ("data", "rows", "examples", "questions", "instances", "annotations", "items")
_CHUNK: Final = 1 << 20


class Rows(Protocol):
    """The rows of one data set, in order."""

    @property
    def fingerprint(self) -> str:
        """Changes when the data changes."""

    def columns(self) -> list[str]:
        """The columns found."""

    def __iter__(self) -> Iterator[Row]: ...


def open_rows(path: str | Sequence[str], split: str = "train") -> Rows:
    """Finds out what a path is.

    Args:
        path: A ``.jsonl``, ``.json``, ``.parquet``, ``.csv`` or ``.tsv`` file, several, a pattern (``data/*.json``), a
            folder of such files, a folder that ``datasets`` saved, or the id of a Hugging Face data set.
        split: The split, of a saved folder with several, of a Hugging Face id, of a folder with files that are called
            by splits, or of a JSON object that has them.

    Raises:
        DataError: there is nothing there, or nothing that can be read.
    """
    if not isinstance(path, str):
        return _open_files([file for item in path for file in _find_files(item, split) or [Path(item)]], split)
    files = _find_files(path, split)
    return load_table(path, split) if files is None else _open_files(files, split)


def folder_of(path: str | Sequence[str]) -> str:
    """The folder that relative paths in the data start from: the data's own."""
    if isinstance(path, str) and Path(path).is_dir():
        return path
    # What stands before the first part with a pattern in it is a folder.
    starts = [item.partition("*")[0] if "*" in item else item for item in ([path] if isinstance(path, str) else path)]
    folders = [str(Path(start) if Path(start).is_dir() else Path(start).parent) for start in starts]
    return folders[0] if len(folders) == 1 else os.path.commonpath(map(os.path.abspath, folders))


def _find_files(path: str, split: str) -> list[Path] | None:
    """The data files of a path; None if it is a data set that ``datasets`` reads."""
    location = Path(path)
    if _is_saved(location):
        return None
    if location.is_dir():
        for suffix in _SUFFIXES:
            files = sorted(location.glob(f"*{suffix}")) if suffix != ".parquet" else []
            if files := files or sorted(location.rglob(f"*{suffix}")):
                return [file for file in files if file.name.startswith((f"{split}-", f"{split}."))] or files
        raise DataError(f"'{path}' is a folder without {', '.join(_SUFFIXES)} files, and datasets did not save it.")
    if not location.exists() and glob.has_magic(path):
        files = sorted(Path(name) for name in glob.glob(path, recursive=True))
        if not files:
            raise DataError(f"no file fits '{path}'; check the pattern.")
        return files
    # What looks like owner/name is the id of a data set.
    is_id = not location.exists() and not location.suffix and path.count("/") == 1
    return None if is_id else [location]


def _open_files(files: Sequence[Path], split: str) -> Rows:
    for file in files:
        if not file.is_file() or file.suffix.lower() not in _SUFFIXES:
            reason = f"is none of {', '.join(_SUFFIXES)}" if file.exists() else "does not exist"
            raise DataError(f"the data file '{file}' {reason}; check the path.")
        # One of many shards may be empty.
        if (len(files) == 1 or file.stat().st_size) and (fault := find_fault(file) or _find_line_ends(file)):
            raise DataError(f"'{file}' {fault}.")
    if all(file.suffix.lower() == ".parquet" for file in files):
        return ParquetRows(files)
    parts = [_open_file(file, split) for file in files]
    return parts[0] if len(parts) == 1 else FileRows(files, parts)


def _open_file(file: Path, split: str) -> Rows:
    match file.suffix.lower():
        case ".parquet":
            return ParquetRows([file])
        case ".csv" | ".tsv":
            return CsvRows(file)
        case _:
            return JsonRows(file, split)


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))


def _find_line_ends(path: Path) -> str | None:
    if path.suffix.lower() not in _JSON:
        return None
    with path.open("rb") as file:
        head = file.read(_CHUNK)
    if b"\r" not in head.strip() or b"\n" in head or head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return None
    return "ends its lines with CR alone, as old Macs did, and is read as one line: convert it (tr '\\r' '\\n')"


class FileRows:
    """The rows of several files, one file after the other; ``_file`` is the name of a row's file.

    Args:
        files: The files.
        parts: The rows of each.
    """

    def __init__(self, files: Sequence[Path], parts: Sequence[Rows]) -> None:
        self.files = files
        self.parts = parts

    @property
    def fingerprint(self) -> str:
        """Those of the files."""
        return "|".join(part.fingerprint for part in self.parts)

    def columns(self) -> list[str]:
        """The columns of all files."""
        return list(dict.fromkeys([*(name for part in self.parts for name in part.columns()), "_file"]))

    def __iter__(self) -> Iterator[Row]:
        for file, part in zip(self.files, self.parts, strict=True):
            for row in part:
                yield row if isinstance(row, RowError) or not row else {**row, "_file": file.stem}


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
        return identify_file(self.path) if self.split == "train" else f"{identify_file(self.path)}:{self.split}"

    def columns(self) -> list[str]:
        """The keys of all its rows."""
        found: dict[str, None] = {}
        for row in self:
            if not isinstance(row, RowError):
                found.update(dict.fromkeys(row))
        return list(found)

    def __iter__(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        whole = self._object() if start.startswith(b"{") and self.path.suffix.lower() == ".json" else None
        values = whole if whole is not None else self._list() if start.startswith(b"[") else self._lines()
        for value in values:
            if isinstance(value, dict | RowError):
                yield value
            else:
                detail = f"the row is a {type(value).__name__}, not an object"
                yield RowError(Reason.WRONG_TYPE, detail, str(value)[:200])

    def _lines(self) -> Iterator[Any]:
        with self.path.open("rb") as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    yield json.loads(line.removeprefix(b"\xef\xbb\xbf"))
                except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
                    yield RowError(Reason.MALFORMED, f"no JSON: {error}", line[:200].decode(errors="replace").strip())

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
