"""What an iteration kept, in a file: put in training order and read back without ever being in memory as a whole."""

from __future__ import annotations

import os
import random
import tempfile
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mstar.atomic import atomic_path
from mstar.storage.responses import read_kept
from mstar.storage.tables import open_table
from mstar.types import Example

__all__ = ["ExampleFile", "open_examples", "order_examples", "write_examples"]

_EXAMPLES: Final = pa.schema([("prompt_id", pa.string()), ("response", pa.string())])
# Examples in a row group, the unit in which they are read again.
_GROUP: Final = 1024

# Groups of rows that a reader holds at a time. A training order that mixes rows within a window wants a few.
_HELD: Final = 8


class ExampleFile(Sequence[Example]):
    """The examples of a Parquet file, read group by group when they are asked for.

    Args:
        path: The file.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_examples(path) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
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
        return Example(rows.column("prompt_id")[row].as_py(), rows.column("response")[row].as_py())

    def _group(self, number: int) -> Any:
        if number not in self._held:
            with open_examples(self.path) as file:
                self._held[number] = file.read_row_group(number, columns=["prompt_id", "response"], use_threads=False)
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return self._held[number]


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Writes the training examples of one iteration, in training order; few of them are in memory at a time."""
    rest = iter(examples)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _EXAMPLES, write_page_checksum=True) as writer:
        while rows := [{"prompt_id": e.prompt_id, "response": e.response} for e in islice(rest, _GROUP)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=_EXAMPLES))


def open_examples(path: Path) -> AbstractContextManager[pq.ParquetFile]:
    """Opens training examples, to be read group by group.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return open_table(path, _EXAMPLES)


def order_examples(shards: Sequence[Path], path: Path, seed: int) -> None:
    """Writes what was kept of some shards as one file, in training order.

    The order is that of a list of the examples, sorted by prompt and response and then shuffled: it depends neither on
    the shards, as long as a prompt's responses are in one of them, nor on who wrote them. In memory are the prompts'
    ids and some integers; the responses wait in a temporary file.

    Args:
        shards: The responses shards.
        path: The file to write.
        seed: Seed of the shuffle.

    Raises:
        DataError: a shard is missing or damaged.
    """
    ends = array("q", [0])
    ids: list[Any] = []
    # The file has no name, so nothing is left of it if the process is killed.
    with tempfile.TemporaryFile(dir=path.parent) as waiting:
        for shard in shards:
            kept = sorted(read_kept(shard), key=lambda example: (example.prompt_id, example.response))
            ids.append(pa.array([example.prompt_id for example in kept], pa.string()))
            for example in kept:
                ends.append(ends[-1] + waiting.write(example.response.encode()))
        waiting.flush()
        all_ids = pa.concat_arrays(ids) if ids else pa.array([], pa.string())
        # Stable, and by code points, as Python sorts.
        order = array("q", pc.sort_indices(all_ids).to_numpy().astype(np.int64).tobytes())
        random.Random(seed).shuffle(order)

        def examples() -> Iterator[Example]:
            for row in order:
                text = os.pread(waiting.fileno(), ends[row + 1] - ends[row], ends[row])
                yield Example(all_ids[row].as_py(), text.decode())

        write_examples(path, examples())
