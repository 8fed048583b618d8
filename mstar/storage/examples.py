"""What an iteration kept, in a file: put in training order and read back without ever being in memory as a whole."""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mstar.atomic import atomic_path
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
    """Writes the training examples of one iteration, in training order; few of them are in memory at a time.

    Args:
        worth: Columns of ``CREDIT`` and ``TOKENS`` that say more of an example than its text; the files of a run have
            the same in each, whatever their examples need.
    """
    rest = iter(examples)
    group = list(islice(rest, _GROUP))
    schema = pa.schema([*_EXAMPLES, *(field for field in (*CREDIT, *TOKENS) if field.name in worth)])
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:
        while group:
            writer.write_table(pa.Table.from_pylist([asdict(example) for example in group], schema=schema))
            group = list(islice(rest, _GROUP))


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
    """
    ends = array("q", [0])
    ids: list[Any] = []
    known: set[bytes] = set()
    worth: set[str] = set()
    # The file has no name, so nothing is left of it if the process is killed.
    with tempfile.TemporaryFile(dir=path.parent) as waiting:

        def wait(examples: Iterable[Example]) -> None:
            names = []
            for example in examples:
                names.append(example.prompt_id)
                ends.append(ends[-1] + waiting.write(json.dumps(asdict(example)).encode()))
                if before is not None:
                    known.add(_key(example))
            ids.append(pa.array(names, pa.string()))

        wait(() if before is None else ExampleFile(before))
        for shard in shards:
            with open_table(shard, _EXAMPLES) as file:
                worth.update(credit_columns(file))
            kept = sorted(read_kept(shard), key=lambda example: (example.prompt_id, example.response))
            wait([example for example in kept if _key(example) not in known])
        waiting.flush()
        all_ids = pa.concat_arrays(ids)
        # Stable, and by code points, as Python sorts.
        order = array("q", pc.sort_indices(all_ids).to_numpy().astype(np.int64).tobytes())
        random.Random(seed).shuffle(order)

        def examples() -> Iterator[Example]:
            for row in order:
                yield make_example(json.loads(os.pread(waiting.fileno(), ends[row + 1] - ends[row], ends[row])))

        write_examples(path, examples(), worth)


def _key(example: Example) -> bytes:
    text = f"{example.prompt_id}\0{example.response}".encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
