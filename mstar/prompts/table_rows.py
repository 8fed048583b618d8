"""The rows of a data set; those of CSV, TSV and Parquet files and of a Hugging Face data set."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.errors import DataError, counted
from mstar.file_faults import find_fault
from mstar.prompts.quarantine import Reason, RowError
from mstar.provenance import identify_file

# The values of a row by column, or why it cannot be read.
Row: TypeAlias = Mapping[str, Any] | RowError

_BUFFER: Final = 1 << 20
_BATCH: Final = 256
_LONGEST_CELL: Final = 1 << 30
_LONGEST_REASON: Final = 1000


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one data set, in order, a few in memory at a time.

    Attributes:
        fingerprint: Changes when the data changes.
        known: The columns, where the data lists them; None where every row names its own.
    """

    fingerprint: str
    read: Callable[[], Iterator[Row]]
    known: tuple[str, ...] | None = None

    def columns(self) -> list[str]:
        """The columns of all rows."""
        if self.known is not None:
            return list(self.known)
        return list(dict.fromkeys(name for row in self if not isinstance(row, RowError) for name in row))

    def __iter__(self) -> Iterator[Row]:
        return self.read()


def csv_rows(path: Path) -> Rows:
    """The rows of a CSV or TSV file, all cells as text; its first line names the columns."""
    return Rows(identify_file(path), partial(_read_csv, path), tuple(next(_cells(path), [])))


def _read_csv(path: Path) -> Iterator[Row]:
    cells = _cells(path)
    names = next(cells, [])
    for row in filter(None, cells):
        if len(row) == len(names):
            yield dict(zip(names, row, strict=True))
        else:
            detail = f"the row has {counted(len(row), 'cell')}, and the file {counted(len(names), 'column')}"
            yield RowError(Reason.MALFORMED, detail, str(row)[:200])


def _cells(path: Path) -> Iterator[list[str]]:
    # The limit is the process's; a smaller one is of no use to anybody here.
    csv.field_size_limit(_LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            usual = "\t" if path.suffix.lower() == ".tsv" else ","
            yield from csv.reader(file, delimiter=";" if ";" in head and usual not in head else usual)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' cannot be read ({error}); mend it, or convert it to UTF-8.") from error


def parquet_rows(files: Sequence[Path]) -> Rows:
    """The rows of Parquet files, one file after the other.

    Raises:
        DataError: one is not a Parquet file, or they have different columns.
    """
    known = _open_parquet(files[0]).schema_arrow.names
    for path in files:
        columns = _open_parquet(path).schema_arrow.names
        # Their order means nothing: a row is read by the columns' names.
        if sorted(columns) != sorted(known):
            raise DataError(f"'{path}' has the columns {columns}, but '{files[0]}' has {known}.")
    return Rows("|".join(map(identify_file, files)), partial(_read_parquet, files), tuple(known))


def _read_parquet(files: Sequence[Path]) -> Iterator[Row]:
    for path in files:
        try:
            for batch in _open_parquet(path).iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise DataError(f"'{path}' is damaged ({error}); get it again.") from error


def _open_parquet(path: Path) -> Any:
    # Without these settings whole row groups are held in memory, pictures included.
    try:
        return pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=_BUFFER)
    except (OSError, pa.ArrowException) as error:
        if (fault := find_fault(path)) is not None:
            raise DataError(f"'{path}' {fault}.") from error
        raise DataError(f"'{path}' cannot be read as Parquet ({error}); get it again.") from error


def load_table(path: str, split: str) -> Rows:
    """The rows of a folder that ``datasets`` saved, or of a data set that it fetches by its id.

    Raises:
        DataError: it cannot be loaded, or has no such split.
    """
    import datasets

    try:
        if not Path(path).is_dir():
            name, _, config = path.partition(":")
            return dataset_rows(datasets.load_dataset(name, config or None, split=split))
        found = datasets.load_from_disk(path)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        # Of a data set with several configurations, the second line lists them.
        reason = " ".join(str(error).strip().splitlines()[:2])[:_LONGEST_REASON]
        raise DataError(
            f"the data set '{path}' cannot be loaded ({reason}); check the path (a configuration is named behind it: "
            "owner/name:config) and the split."
        ) from error
    if not isinstance(found, datasets.DatasetDict):
        return dataset_rows(found)
    if split not in found:
        raise DataError(f"'{path}' has no split '{split}'; it has {sorted(found)}.")
    return dataset_rows(found[split])


def dataset_rows(data: Any) -> Rows:
    """The rows of a ``datasets.Dataset``; Arrow's form of it has the pictures as they are stored, not decoded."""
    plain = data.with_format("arrow")

    def read() -> Iterator[Row]:
        for batch in plain.iter(_BATCH):
            yield from batch.to_pylist()

    return Rows(str(data._fingerprint), read, tuple(data.column_names))
