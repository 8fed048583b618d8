"""Writes rows in a peer's form: a file for each kind, a few rows in memory at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.errors import DataError
from mstar.interruption import stop_if_asked
from mstar.peers.forms import PeerForm
from mstar.peers.forms.base import PeerTable, Row
from mstar.peers.pictures import Pictures
from mstar.peers.rows import PeerRow
from mstar.storage import write_json

__all__ = ["Written", "write_rows"]

# Rows of a Parquet row group, which is what ``datasets`` reads at a time: few, because pictures are in them.
_GROUP: Final = 64


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        files: The files with their numbers of rows.
        left_out: Why rows were left out, each reason with the number of rows.
    """

    files: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


class _Sink(Protocol):
    def __enter__(self) -> _Sink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, row: Row) -> None: ...


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")

    def __enter__(self) -> _JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: Row) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


class _Parquet:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == _GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def write_rows(
    rows: Iterable[PeerRow], form: PeerForm, folder: Path, pictures: Pictures, *, with_pictures: bool, final: Path
) -> Written:
    """Writes rows; those that a form has no place for, or whose picture is missing, are left out and counted.

    Args:
        rows: The rows.
        form: The form.
        folder: The folder to write to, which is there.
        pictures: Finds the pictures.
        with_pictures: Whether any row has some.
        final: Where the folder will be in the end.
    """
    written = Written()
    sinks: dict[str, _Sink] = {}
    with ExitStack() as stack:
        for row in rows:
            stop_if_asked()
            table = form.tables.get(type(row))
            if table is None:
                continue
            try:
                made = table.to_row(row, pictures)
            except DataError as error:
                # Reasons name the prompt, where it is not in the words already.
                written.left_out[_reason(error)] += 1
                continue
            if table.file not in sinks:
                sinks[table.file] = stack.enter_context(_open(table, folder, with_pictures))
                written.files[table.file] = 0
            sinks[table.file].add(made)
            written.files[table.file] += 1
    for name, value in form.extras(written.files, final.resolve()).items():
        write_json(folder / name, value)
    return written


def _open(table: PeerTable, folder: Path, with_pictures: bool) -> _Sink:
    path = folder / table.file
    return _JsonLines(path) if table.schema is None else _Parquet(path, table.schema(with_pictures))


def _reason(error: DataError) -> str:
    return str(error).rstrip(".")
