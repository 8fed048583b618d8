"""The rows of tables: of CSV, TSV and Parquet files and of a Hugging Face data set, a few in memory at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.errors import DataError
from mstar.file_faults import find_fault
from mstar.prompts.quarantine import Reason, RowError
from mstar.provenance import identify_file

__all__ = ["CsvRows", "ParquetRows", "TableRows", "load_table"]

_BUFFER: Final = 1 << 20
_BATCH: Final = 256
_LONGEST_CELL: Final = 1 << 30


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
        return identify_file(self.path)

    def columns(self) -> list[str]:
        """The names in the first line."""
        return next(self._cells(), [])

    def __iter__(self) -> Iterator[dict[str, Any] | RowError]:
        cells = self._cells()
        names = next(cells, [])
        for row in filter(None, cells):
            if len(row) == len(names):
                yield dict(zip(names, row, strict=True))
            else:
                detail = f"the row has {len(row)} cells, and there are {len(names)} columns"
                yield RowError(Reason.MALFORMED, detail, str(row)[:200])

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
        return "|".join(map(identify_file, self.files))

    def columns(self) -> list[str]:
        """Their columns."""
        return list(self._columns)

    def __iter__(self) -> Iterator[dict[str, Any] | RowError]:
        for path in self.files:
            try:
                for batch in self._open(path).iter_batches(batch_size=_BATCH):
                    yield from _read_batch(batch)
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

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._files:
            yield from _stream(self._files)
            return
        for batch in self.data.iter(batch_size=_BATCH):
            yield from (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


def _read_batch(batch: Any) -> Iterator[dict[str, Any] | RowError]:
    """The rows of a batch; Arrow does not look at whether its text is UTF-8."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError as error:
        if len(batch) == 1:
            yield RowError(Reason.BAD_TEXT, f"the text is no UTF-8: {error}")
            return
        for place in range(len(batch)):
            yield from _read_batch(batch.slice(place, 1))


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


def load_table(path: str, split: str) -> TableRows:
    """The rows of a folder that ``datasets`` saved, or of a data set that it fetches by its id.

    Raises:
        DataError: it cannot be loaded, or has no such split.
    """
    import datasets

    try:
        if not Path(path).is_dir():
            return TableRows(datasets.load_dataset(path, split=split))
        found = datasets.load_from_disk(path)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"the data set '{path}' cannot be loaded ({reason}); check the path and the split.") from error
    if not isinstance(found, datasets.DatasetDict):
        return TableRows(found)
    if split not in found:
        raise DataError(f"'{path}' has no split '{split}'; it has {sorted(found)}.")
    return TableRows(found[split])
