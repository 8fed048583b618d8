"""What an iteration kept, in a file: put in training order and read back without ever being in memory as a whole."""

from __future__ import annotations

import hashlib
import random
import tempfile
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import accumulate, islice
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mstar.atomic import atomic_path
from mstar.interruption import stop_if_asked
from mstar.storage.responses import CREDIT, TOKENS, WEIGHT, credit_columns, make_example, read_kept
from mstar.storage.tables import open_table
from mstar.types import Example

_EXAMPLES: Final = pa.schema([("prompt_id", pa.string()), ("response", pa.string())])
# Examples in a row group, the unit in which they are read again.
_GROUP: Final = 1024

# Groups of rows that a reader holds at a time. A training order that mixes rows within a window wants a few.
_HELD: Final = 8


class ExampleFile(Sequence[Example]):
    """The examples of a Parquet file, read group by group when they are asked for.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_examples(path) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            # Whether its examples have advantages, or weights other than 1.
            self.credited = _are_credited(file)
        self._starts: list[int] = [0, *accumulate(sizes)]
        self._held: OrderedDict[int, Any] = OrderedDict()

    def __reduce__(self) -> tuple[type[ExampleFile], tuple[Path]]:
        return ExampleFile, (self.path,)

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        number = bisect_right(self._starts, place) - 1
        rows, row = self._group(number), place - self._starts[number]
        return make_example({name: rows.column(name)[row].as_py() for name in rows.column_names})

    def _group(self, number: int) -> Any:
        if number not in self._held:
            with open_examples(self.path) as file:
                columns = [*_EXAMPLES.names, *credit_columns(file)]
                self._held[number] = file.read_row_group(number, columns=columns, use_threads=False)
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return self._held[number]


def _are_credited(file: pq.ParquetFile) -> bool:
    names = credit_columns(file)
    if names != WEIGHT.names:
        return bool(names)
    groups = (file.read_row_group(number, columns=names)["weight"] for number in range(file.num_row_groups))
    return any(pc.any(pc.not_equal(weights, 1.0)).as_py() for weights in groups)


def write_examples(path: Path, examples: Iterable[Example], worth: Collection[str] = ()) -> None:
    """Writes training examples, in training order; few of them are in memory at a time.

    Args:
        worth: Columns of ``CREDIT`` and ``TOKENS`` that say more of an example than its text; the files of a run have
            the same in each, whatever their examples need.
    """
    schema, rest = _schema(worth), iter(examples)
    groups = iter(lambda: list(islice(rest, _GROUP)), [])
    _write_groups(
        path, schema, (pa.Table.from_pylist([asdict(example) for example in group], schema=schema) for group in groups)
    )


def _schema(worth: Collection[str]) -> pa.Schema:
    return pa.schema([*_EXAMPLES, *(field for field in (*CREDIT, *TOKENS) if field.name in worth)])


def _write_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:
        for group in groups:
            stop_if_asked()
            writer.write_table(group)


def open_examples(path: Path) -> AbstractContextManager[pq.ParquetFile]:
    """Opens training examples, to be read group by group.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return open_table(path, _EXAMPLES)


def order_examples(shards: Sequence[Path], path: Path, seed: int, before: Path | None = None) -> None:
    """Writes what was kept of some shards as one file, in training order.

    The order is that of a list of the examples, sorted by prompt and response and then shuffled: it depends neither on
    the shards, as long as a prompt's responses are in one of them, nor on who wrote them. In memory are the prompts'
    ids and some integers; the examples wait in a temporary file.

    Args:
        before: Examples of an earlier iteration that are trained on again; what is kept now and was then counts once.

    Raises:
        DataError: a shard is missing or damaged.
        Interrupted: the process was asked to stop.
    """
    worth: set[str] = set()
    for shard in shards:
        with open_table(shard, _EXAMPLES) as file:
            worth.update(credit_columns(file))
    schema = _schema(worth)
    ids: list[pa.ChunkedArray] = []
    # The file has no name, so nothing is left of it if the process is killed.
    with tempfile.TemporaryFile(dir=path.parent) as waiting:
        with pa.ipc.new_file(waiting, schema) as draft:
            for rows in _examples_of(shards, before):
                stop_if_asked()
                draft.write_table(_conform(rows, schema).combine_chunks())
                ids.append(rows["prompt_id"])
        waiting.flush()
        all_ids = pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())
        # Stable, and by code points, as Python sorts.
        order = array("q", pc.sort_indices(all_ids).to_numpy().astype(np.int64).tobytes())
        random.Random(seed).shuffle(order)
        with pa.ipc.open_file(pa.py_buffer(mmap(waiting.fileno(), 0, access=ACCESS_READ))) as draft:
            batches = [draft.get_batch(number) for number in range(draft.num_record_batches)]
        numbers = np.frombuffer(order, np.int64)
        _write_groups(path, schema, (_take(batches, numbers[i : i + _GROUP]) for i in range(0, len(order), _GROUP)))


def _examples_of(shards: Sequence[Path], before: Path | None) -> Iterator[pa.Table]:
    """What was trained on before, group by group, and then what each shard has beside it."""
    known: set[bytes] = set()
    if before is not None:
        with open_examples(before) as file:
            columns = [*_EXAMPLES.names, *credit_columns(file)]
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number, columns=columns)
                known.update(_keys(rows))
                yield rows
    for shard in shards:
        rows = read_kept(shard)
        yield rows if before is None else rows.filter(pa.array([key not in known for key in _keys(rows)], pa.bool_()))


def _conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows in the columns of a schema; where they lack one, each has what an example has without it."""
    lacking: dict[str, Any] = {"weight": 1.0, "advantage": None, "tokens": [], "logprobs": []}
    return pa.table(
        [
            rows[field.name]
            if field.name in rows.column_names
            else pa.array([lacking[field.name]] * len(rows), field.type)
            for field in schema
        ],
        schema=schema,
    )


def _take(batches: Sequence[pa.RecordBatch], rows_E: NDArray[np.int64]) -> pa.Table:
    """Rows by their numbers in all batches together (a table of these would copy them all before it takes any)."""
    places_E = np.argsort(rows_E)
    sorted_E = rows_E[places_E]
    starts = [0, *accumulate(batch.num_rows for batch in batches)]
    bounds = np.searchsorted(sorted_E, starts)
    parts = [
        batch.take(pa.array(sorted_E[first:last] - start))
        for batch, start, first, last in zip(batches, starts, bounds, bounds[1:], strict=False)
        if last > first
    ]
    return pa.Table.from_batches(parts).take(pa.array(np.argsort(places_E)))


def _keys(rows: pa.Table) -> Iterator[bytes]:
    for prompt_id, response in zip(rows["prompt_id"].to_pylist(), rows["response"].to_pylist(), strict=True):
        text = f"{prompt_id}\0{response}".encode(errors="surrogatepass")
        yield hashlib.blake2b(text, digest_size=16).digest()
