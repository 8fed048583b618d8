"""Step labels in an Arrow table: a row becomes a Python object when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mstar.errors import DataError
from mstar.steps import split_steps
from mstar.storage import make_step_labels, open_step_labels, tabulate_step_labels
from mstar.types import StepLabels

_CHUNK = 1024


class LabelTable(Sequence[StepLabels]):
    """Some rows of a table of step labels, in order.

    Args:
        table: A table of ``datasets``.
        rows: The numbers of the rows; None for all.
    """

    def __init__(self, table: Any, rows: NDArray[np.int64] | None = None) -> None:
        self._table = table
        self._rows = np.arange(len(table)) if rows is None else rows

    @classmethod
    def mapped(cls, path: Path) -> LabelTable:
        """The labels of a file that ``write_label_table`` wrote; the file is memory-mapped."""
        from datasets import Dataset

        return cls(Dataset.from_file(str(path)).data)

    @classmethod
    def read(cls, shards: Sequence[Path]) -> LabelTable:
        """The labels of the shards that ``annotate`` wrote; they are in memory, as Arrow has them."""
        from datasets.table import InMemoryTable

        empty = tabulate_step_labels([])
        parts = [empty]
        for path in shards:
            with open_step_labels(path) as file:
                parts.append(file.read(empty.column_names).cast(empty.schema))
        return cls(InMemoryTable(pa.concat_tables(parts)))

    @classmethod
    def held(cls, labels: Iterable[StepLabels]) -> LabelTable:
        """Labels, held in memory."""
        from datasets.table import InMemoryTable

        return cls(InMemoryTable(tabulate_step_labels(list(labels))))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> StepLabels: ...

    @overload
    def __getitem__(self, index: slice) -> LabelTable: ...

    def __getitem__(self, index: int | slice) -> StepLabels | LabelTable:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        [label] = make_step_labels(self._table.fast_slice(int(self._rows[index]), 1).to_pylist())
        return label

    def __iter__(self) -> Iterator[StepLabels]:
        for start in range(0, len(self._rows), _CHUNK):
            yield from make_step_labels(self._table.table.take(self._rows[start : start + _CHUNK]).to_pylist())

    def select(self, rows: NDArray[np.int64]) -> LabelTable:
        """Some of the rows, by their numbers."""
        return LabelTable(self._table, self._rows[rows])

    def with_more(self, labels: Iterable[StepLabels]) -> LabelTable:
        """These labels and, behind them, others, which are held in memory."""
        from datasets.table import concat_tables

        more = LabelTable.held(labels)
        rows = len(self._table) + np.arange(len(more))
        return LabelTable(concat_tables([self._table, more._table]), np.concatenate([self._rows, rows]))

    def by_prompt(self) -> LabelTable:
        """The same labels, those of a prompt one after the other."""
        return self.select(np.argsort(self.prompts()[1], kind="stable"))

    def prompts(self) -> tuple[list[str], NDArray[np.int64]]:
        """The distinct ids of the prompts in the order in which they occur, and for every row the number of its id."""
        found = self._table.column("prompt_id").take(self._rows).combine_chunks().dictionary_encode()
        return found.dictionary.to_pylist(), found.indices.to_numpy().astype(np.int64)


def load_step_labels(path: Path) -> LabelTable:
    """Reads the labels of a folder of shards, or of one file.

    Raises:
        DataError: there are none, or a row's steps are not the steps of its response.
    """
    shards = [path] if path.is_file() else sorted(path.glob("labels-*.parquet"))
    labels = LabelTable.read(shards)
    if not labels:
        raise DataError(
            f"'{path}' holds no step labels (labels-*.parquet): run 'python -m mstar annotate' first, or mend the path."
        )
    for label in labels:
        if label.steps != split_steps(label.response) or not len(label.num_correct) == len(label.steps):
            raise DataError(
                f"'{path}': the steps of a response to '{label.prompt_id}' are not the lines of the response, or are "
                "not labelled one by one: annotate again with this version of mstar."
            )
    return labels


def write_label_table(path: Path, shards: Iterable[Sequence[StepLabels]]) -> None:
    """Writes labels, some at a time, into a file that can be memory-mapped."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, tabulate_step_labels([]).schema) as writer:
        for shard in shards:
            writer.write_table(tabulate_step_labels(shard))
