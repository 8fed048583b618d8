"""Writes rows in a peer's form: a file for each kind, a few rows in memory at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.errors import DataError
from mstar.interruption import stop_if_asked
from mstar.peers.forms import PeerForm
from mstar.peers.forms.base import PeerTable, Row
from mstar.peers.pictures import Pictures
from mstar.peers.rows import PeerRow
from mstar.storage import write_json

# Rows of a Parquet row group, which is what ``datasets`` reads at a time: few, because pictures are in them.
_GROUP: Final = 64


@dataclass(frozen=True, slots=True)
class Written:
    """The files that were written with their numbers of rows, and why other rows were left out, with theirs."""

    files: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


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


def write_rows(rows: Iterable[PeerRow], form: PeerForm, pictures: Pictures, *, with_pictures: bool) -> Written:
    """Writes rows in a form, beside their pictures.

    Those that the form has no place for, or whose picture is missing, are left out and counted.
    """
    written = Written()
    sinks: dict[str, _JsonLines | _Parquet] = {}
    with ExitStack() as stack:
        for row in rows:
            stop_if_asked()
            table = form.tables.get(type(row))
            if table is None:
                continue
            try:
                made = table.to_row(row, pictures)
            except DataError as error:
                written.left_out[str(error).rstrip(".")] += 1
                continue
            if table.file not in sinks:
                sinks[table.file] = _open(table, pictures.folder, with_pictures)
                stack.enter_context(sinks[table.file])
                written.files[table.file] = 0
            sinks[table.file].add(made)
            written.files[table.file] += 1
    for name, value in form.extras(written.files, pictures.final).items():
        write_json(pictures.folder / name, value)
    return written


def _open(table: PeerTable, folder: Path, with_pictures: bool) -> _JsonLines | _Parquet:
    path = folder / table.file
    return _JsonLines(path) if table.schema is None else _Parquet(path, table.schema(with_pictures))
