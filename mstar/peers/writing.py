"""Writes rows in a peer's form: a file for each kind, a few rows in memory at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.errors import DataError
from mstar.interruption import stop_if_asked
from mstar.peers.forms import PeerForm
from mstar.peers.forms.base import Row, arrow_schema
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


def write_rows(rows: Iterable[PeerRow], form: PeerForm, pictures: Pictures) -> Written:
    """Writes rows in a form, beside their pictures.

    Those that the form has no place for, or whose picture is missing, are left out and counted.
    """
    written = Written()
    # What adds a row to a file.
    sinks: dict[str, Callable[[Row], object]] = {}
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
                path = pictures.folder / table.file
                schema = None if table.columns is None else arrow_schema(table.columns(pictures.some), pictures.some)
                sinks[table.file] = stack.enter_context(_json_lines(path) if schema is None else _parquet(path, schema))
                written.files[table.file] = 0
            sinks[table.file](made)
            written.files[table.file] += 1
    for name, value in form.extras(written.files, pictures.final).items():
        write_json(pictures.folder / name, value)
    return written


@contextmanager
def _json_lines(path: Path) -> Iterator[Callable[[Row], object]]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda row: file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[Callable[[Row], object]]:
    rows: list[Row] = []
    with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:

        def flush() -> None:
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows.clear()

        def add(row: Row) -> None:
            rows.append(row)
            if len(rows) == _GROUP:
                flush()

        yield add
        flush()
