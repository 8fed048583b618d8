"""The rows behind a path, and those of JSON files: lines and lists are read piece by piece."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from mstar.errors import DataError
from mstar.file_faults import find_fault
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.table_rows import Row, Rows, csv_rows, load_table, parquet_rows
from mstar.provenance import identify_file

# In the order in which a folder is looked through.
_SUFFIXES: Final = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
# Under which keys an object has its rows, beside the name of the split.
_CONTAINERS: Final = ("data", "rows", "examples", "questions", "instances", "annotations", "items")
_CHUNK: Final = 1 << 20
# What stands between the elements of a list.
_GAP: Final = frozenset(" \t\r\n,")


def open_rows(path: str | Sequence[str], split: str = "train") -> Rows:
    """Finds out what a path is.

    Args:
        path: A ``.jsonl``, ``.json``, ``.parquet``, ``.csv`` or ``.tsv`` file, several, a pattern (``data/*.json``), a
            folder of such files, a folder that ``datasets`` saved, or the id of a Hugging Face data set.
        split: The split, of a saved folder with several, of a Hugging Face id, of a folder with files that are called
            by splits or lie in folders that are, or of a JSON object that has them.

    Raises:
        DataError: there is no such data, or nothing of the split. Of data without splits ``train`` is all.
    """
    root = folder_of(path)
    if not isinstance(path, str):
        return _open_files([file for item in path for file in _expand(item, split) or [Path(item)]], split, root)
    files = _expand(path, split)
    return load_table(path, split) if files is None else _open_files(files, split, root)


def folder_of(path: str | Sequence[str]) -> str:
    """The folder that relative paths in the data start from: the data's own."""
    if isinstance(path, str) and Path(path).is_dir():
        return path
    # What stands before the first part with a pattern in it is a folder; "[[]" is how a pattern says a bracket.
    starts = [item.partition("*")[0].replace("[[]", "[") for item in ([path] if isinstance(path, str) else path)]
    folders = [str(Path(start) if Path(start).is_dir() else Path(start).parent) for start in starts]
    return folders[0] if len(folders) == 1 else os.path.commonpath(map(os.path.abspath, folders))


def find_files(folder: Path, splits: Sequence[str] = ()) -> list[Path]:
    """The data files in a folder, of the first kind that it has them of.

    Args:
        splits: The names of the wanted split: only files that are called by one of them count, or that lie in a folder
            that is. None takes all.
    """
    # "test" must not find "testmini-00000-of-00001.parquet".
    starts = tuple(f"{name}{end}" for name in splits for end in "-._")
    names = set(splits)
    for suffix in _SUFFIXES:
        files = sorted(folder.glob(f"*{suffix}")) if suffix != ".parquet" else []
        files = [file for file in files or sorted(folder.rglob(f"*{suffix}")) if not file.name.startswith(".")]
        if names:
            files = [
                file for file in files if file.name.startswith(starts) or names & {*file.relative_to(folder).parts[:-1]}
            ]
        if files:
            return files
    return []


def _expand(path: str, split: str) -> list[Path] | None:
    """The data files of a path; None if it is a data set that ``datasets`` reads."""
    location = Path(path)
    if any((location / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
        return None
    if location.is_dir():
        if files := find_files(location, (split,)) or find_files(location):
            return files
        raise DataError(f"'{path}' is a folder without {', '.join(_SUFFIXES)} files, and datasets did not save it.")
    if not location.exists() and glob.has_magic(path):
        files = sorted(Path(name) for name in glob.glob(path, recursive=True))
        if not files:
            raise DataError(f"no file fits '{path}'; check the pattern.")
        return files
    # What looks like owner/name is the id of a data set; so is owner/name-v1.2, whose end is no file's.
    is_id = not location.exists() and not location.suffix[1:2].isalpha() and path.count("/") == 1
    return None if is_id else [location]


def _open_files(files: Sequence[Path], split: str, root: str) -> Rows:
    for file in files:
        if not file.is_file() or file.suffix.lower() not in _SUFFIXES:
            reason = f"is none of {', '.join(_SUFFIXES)}" if file.exists() else "does not exist"
            raise DataError(f"the data file '{file}' {reason}; check the path.")
        # One of many shards may be empty.
        if (len(files) == 1 or file.stat().st_size) and (fault := find_fault(file)):
            raise DataError(f"'{file}' {fault}.")
        # An object has lists of its own for the splits.
        if file.suffix.lower() != ".json":
            _require_split(file, split)
    if all(file.suffix.lower() == ".parquet" for file in files):
        return parquet_rows(files)
    parts = [_open_file(file, split) for file in files]
    if len(parts) == 1:
        return parts[0]
    return Rows("|".join(part.fingerprint for part in parts), partial(_read_all, files, parts, root))


def _require_split(file: Path, split: str) -> None:
    """What is not called by the split must not be taken for it: it is the training data, too, or that of another.

    Raises:
        DataError: the file does not have the split in its name, and no folder of it is called so.
    """
    word = rf"(?<![^\W_]){re.escape(split)}(?![^\W_])"
    folders = {part.casefold() for part in file.parts[:-1]}
    said = split.casefold() in folders or re.search(word, file.name, re.IGNORECASE)
    if split != "train" and not said:
        raise DataError(
            f"'{file}' has no rows of the split '{split}': neither its name nor its folder's says so. Name the file of "
            "that split, or leave out 'split' (parts of one file are cut by 'share', or by 'start' and 'stop')."
        )


def _open_file(file: Path, split: str) -> Rows:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return parquet_rows([file])
    return csv_rows(file) if suffix in (".csv", ".tsv") else json_rows(file, split)


def _read_all(files: Sequence[Path], parts: Sequence[Rows], root: str) -> Iterator[Row]:
    """The rows of several files, one file after the other; ``_file`` and ``_folder`` say which a row is from."""
    for file, part in zip(files, parts, strict=True):
        place = {"_file": file.stem, "_folder": os.path.relpath(file.parent, root)}
        for row in part:
            yield row if isinstance(row, RowError) or not row else {**row, **place}


def json_rows(path: Path, split: str = "train") -> Rows:
    """The rows of a file of JSON lines, of a JSON list, or of one JSON object; the first two are read piece by piece.

    An object has its rows under the name of the split, under ``data`` or the like, or as its values; a row that is a
    value has its key as ``_key``. Rows that are not under the name of the split are those of ``train``, or of the split
    that the file is called by.
    """
    name = identify_file(path)
    return Rows(name if split == "train" else f"{name}:{split}", partial(_read_json, path, split))


def _read_json(path: Path, split: str) -> Iterator[Row]:
    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    values = _read_object(path, split) if start.startswith(b"{") and path.suffix.lower() == ".json" else None
    if values is None:
        _require_split(path, split)
        values = _read_list(path) if start.startswith(b"[") else _read_lines(path)
    for value in values:
        if isinstance(value, dict | RowError):
            yield value
        else:
            detail = f"the row is a {type(value).__name__}, not an object"
            yield RowError(Reason.WRONG_TYPE, detail, str(value)[:200])


def parse_json(text: bytes) -> Any:
    """What JSON says, or why it says nothing."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        return RowError(Reason.MALFORMED, f"no JSON: {error}", text[:200].decode(errors="replace").strip())


def _read_lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from (parse_json(line) for line in file if line.strip())


def _read_object(path: Path, split: str) -> Iterable[Any] | None:
    """The rows of a file that is one JSON object; None if it is JSON lines."""
    with path.open("rb") as file:
        lines = (line for line in file if line.strip())
        first, several = next(lines, b""), next(lines, None) is not None
    if several and not isinstance(parse_json(first), RowError):
        return None
    value = parse_json(path.read_bytes())
    if isinstance(value, RowError):
        return None
    if (rows := _as_rows(value.get(split))) is not None:
        return rows
    _require_split(path, split)
    rows = _find_rows(value)
    return [value] if rows is None else rows


def _find_rows(value: Mapping[str, Any]) -> list[Any] | None:
    for name in _CONTAINERS:
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


def _read_list(path: Path) -> Iterator[Any]:
    """The elements of a JSON list, without reading the whole of it."""
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8-sig") as file:
            buffer = file.read(_CHUNK).lstrip()
            position, ended, number = 1, False, 0
            while True:
                while buffer[position : position + 1] in _GAP:
                    position += 1
                if buffer[position : position + 1] == "]":
                    return
                try:
                    value, end = decoder.raw_decode(buffer, position)
                    whole = end < len(buffer) or ended
                except (ValueError, RecursionError) as error:
                    value, end, whole = error, position, False
                if whole:
                    yield value
                    position, number = end, number + 1
                elif ended:
                    raise DataError(f"'{path}' is a JSON list that is damaged in row {number} ({value}); get it again.")
                else:
                    more = file.read(_CHUNK)
                    buffer, position, ended = buffer[position:] + more, 0, not more
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not UTF-8 text ({error}); convert it.") from error
