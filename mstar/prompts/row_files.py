"""The rows behind a path: of JSON, Parquet, CSV or TSV files, or of a Hugging Face data set."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.errors import DataError
from mstar.file_faults import find_fault
from mstar.prompts.json_rows import JsonRows, RawRow, RawRows, identify
from mstar.prompts.quarantine import Reason, RowError

__all__ = ["ParquetRows", "TableRows", "folder_of", "open_rows"]

_JSON: Final = (".json", ".jsonl", ".ndjson")
# In the order in which a folder is looked through.
_SUFFIXES: Final = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_LONGEST_CELL: Final = 1 << 30
_BUFFER: Final = 1 << 20
_BATCH: Final = 256


def open_rows(path: str | Sequence[str], split: str = "train") -> RawRows:
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
    return TableRows(_load_table(path, split)) if files is None else _open_files(files, split)


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
    if location.is_file() and location.suffix.lower() in _SUFFIXES:
        return [location]
    if location.is_dir() and not _is_saved(location):
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
    return None


def _open_files(files: Sequence[Path], split: str) -> RawRows:
    for file in files:
        if not file.is_file() or file.suffix.lower() not in _SUFFIXES:
            reason = f"is none of {', '.join(_SUFFIXES)}" if file.exists() else "does not exist"
            raise DataError(f"the data file '{file}' {reason}; check the path.")
        # One of many shards may be empty.
        if len(files) == 1 or file.stat().st_size:
            _require_content(file)
    if all(file.suffix.lower() == ".parquet" for file in files):
        return ParquetRows(files)
    parts = [_open_file(file, split) for file in files]
    return parts[0] if len(parts) == 1 else FileRows(files, parts)


def _open_file(file: Path, split: str) -> RawRows:
    match file.suffix.lower():
        case ".parquet":
            return ParquetRows([file])
        case ".csv" | ".tsv":
            return CsvRows(file)
        case _:
            return JsonRows(file, split)


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))


def _require_content(path: Path) -> None:
    fault = find_fault(path)
    if fault is None and path.suffix.lower() in _JSON:
        fault = _find_line_ends(path)
    if fault is not None:
        raise DataError(f"'{path}' {fault}.")


def _find_line_ends(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(_BUFFER)
    if b"\r" not in head.strip() or b"\n" in head or head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return None
    return "ends its lines with CR alone, as old Macs did, and is read as one line: convert it (tr '\\r' '\\n')"


def _load_table(path: str, split: str) -> Any:
    import datasets

    location = Path(path)
    try:
        if _is_saved(location):
            found = datasets.load_from_disk(str(location))
            if not isinstance(found, datasets.DatasetDict):
                return found
            if split not in found:
                raise DataError(f"'{path}' has no split '{split}'; it has {sorted(found)}.")
            return found[split]
        if location.exists() or location.suffix or path.count("/") != 1:
            reason = f"is none of {', '.join(_SUFFIXES)}" if location.exists() else "does not exist"
            raise DataError(f"the data file '{path}' {reason}; check the path.")
        return datasets.load_dataset(path, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"the data set '{path}' cannot be loaded ({reason}); check the path and the split.") from error


class FileRows:
    """The rows of several files, one file after the other; ``_file`` is the name of a row's file.

    Args:
        files: The files.
        parts: The rows of each.
    """

    def __init__(self, files: Sequence[Path], parts: Sequence[RawRows]) -> None:
        self.files = files
        self.parts = parts

    @property
    def fingerprint(self) -> str:
        """Those of the files."""
        return "|".join(part.fingerprint for part in self.parts)

    def columns(self) -> list[str]:
        """The columns of all files."""
        return list(dict.fromkeys([*(name for part in self.parts for name in part.columns()), "_file"]))

    def __iter__(self) -> Iterator[RawRow]:
        number = 0
        for file, part in zip(self.files, self.parts, strict=True):
            for row in part:
                yield replace(row, number=number, values={**row.values, "_file": file.stem} if row.values else {})
                number += 1


class CsvRows:
    """The rows of a CSV or TSV file, all cells as text.

    Args:
        path: The file; its first line names the columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def fingerprint(self) -> str:
        """Place, size and time of the file."""
        return identify(self.path)

    def columns(self) -> list[str]:
        """The names in the first line."""
        return next(self._cells(), [])

    def __iter__(self) -> Iterator[RawRow]:
        cells = self._cells()
        names = next(cells, [])
        for number, row in enumerate(row for row in cells if row):
            if len(row) == len(names):
                yield RawRow(number, dict(zip(names, row, strict=True)))
            else:
                detail = f"the row has {len(row)} cells, and there are {len(names)} columns"
                yield RawRow(number, {}, RowError(Reason.MALFORMED, detail), str(row)[:200])

    def _cells(self) -> Iterator[list[str]]:
        # The limit is the process's; a smaller one is of no use to anybody here.
        csv.field_size_limit(_LONGEST_CELL)
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                head = file.readline()
                file.seek(0)
                usual = "\t" if self.path.suffix.lower() == ".tsv" else ","
                yield from csv.reader(file, delimiter=";" if ";" in head and usual not in head else usual)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"'{self.path}' cannot be read ({error}); mend it, or convert it to UTF-8.") from error


class ParquetRows:
    """The rows of Parquet files, one file after the other, a few at a time.

    Args:
        files: The files.

    Raises:
        DataError: one is not a Parquet file, or they have different columns.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self._columns = self._open(files[0]).schema_arrow.names
        for path in files:
            columns = self._open(path).schema_arrow.names
            # Their order means nothing: a row is read by the columns' names.
            if sorted(columns) != sorted(self._columns):
                raise DataError(f"'{path}' has the columns {columns}, but '{files[0]}' has {self._columns}.")

    @property
    def fingerprint(self) -> str:
        """Places, sizes and times of the files."""
        return "|".join(map(identify, self.files))

    def columns(self) -> list[str]:
        """Their columns."""
        return list(self._columns)

    def __iter__(self) -> Iterator[RawRow]:
        number = 0
        for path in self.files:
            try:
                for batch in self._open(path).iter_batches(batch_size=_BATCH):
                    for row in _read_batch(batch, number):
                        yield row
                        number += 1
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"'{path}' is damaged ({error}); get it again.") from error

    def _open(self, path: Path) -> Any:
        # Without these settings whole row groups are held in memory, pictures included.
        try:
            return pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=_BUFFER)
        except (OSError, pa.ArrowException) as error:
            if (fault := find_fault(path)) is not None:
                raise DataError(f"'{path}' {fault}.") from error
            raise DataError(f"'{path}' cannot be read as Parquet ({error}); get it again.") from error


class TableRows:
    """The rows of a ``datasets.Dataset``, with its pictures undecoded; the table is memory-mapped.

    Args:
        data: The data set.
    """

    def __init__(self, data: Any) -> None:
        self._files = _plain_files(data)
        self.data = _keep_encoded(data)

    @property
    def fingerprint(self) -> str:
        """The data set's own."""
        return str(self.data._fingerprint)

    def columns(self) -> list[str]:
        """Its columns."""
        return list(self.data.column_names)

    def __iter__(self) -> Iterator[RawRow]:
        if self._files:
            yield from (RawRow(number, values) for number, values in enumerate(_stream(self._files)))
            return
        number = 0
        for batch in self.data.iter(batch_size=_BATCH):
            for values in zip(*batch.values(), strict=True):
                yield RawRow(number, dict(zip(batch, values, strict=True)))
                number += 1


def _read_batch(batch: Any, first: int) -> Iterator[RawRow]:
    """The rows of a batch, numbered from ``first``; Arrow does not look at whether its text is UTF-8."""
    try:
        yield from [RawRow(first + place, values) for place, values in enumerate(batch.to_pylist())]
    except UnicodeDecodeError as error:
        if len(batch) == 1:
            yield RawRow(first, {}, RowError(Reason.BAD_TEXT, f"the text is no UTF-8: {error}"))
            return
        for place in range(len(batch)):
            yield from _read_batch(batch.slice(place, 1), first + place)


def _plain_files(data: Any) -> list[str]:
    """The Arrow files that hold a data set's rows as they are; none if it is a selection or a view of them."""
    from datasets.table import ConcatenationTable, MemoryMappedTable

    blocks = data.data.blocks if isinstance(data.data, ConcatenationTable) else [[data.data]]
    whole = all(len(row) == 1 and isinstance(row[0], MemoryMappedTable) and not row[0].replays for row in blocks)
    return [row[0].path for row in blocks] if whole and data._indices is None else []


def _stream(files: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of Arrow files, read and not mapped: mapped pages count as this process's memory once touched."""
    for path in files:
        with pa.OSFile(path) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                for start in range(0, len(batch), _BATCH):
                    yield from batch.slice(start, _BATCH).to_pylist()


def _keep_encoded(data: Any) -> Any:
    from datasets import Image, List, Sequence

    for column, feature in data.features.items():
        inner = getattr(feature, "feature", None)
        if isinstance(feature, Image):
            data = data.cast_column(column, Image(decode=False))
        elif isinstance(feature, List | Sequence) and isinstance(inner, Image):
            data = data.cast_column(column, List(Image(decode=False)))
    return data
