"""Step labels, one row a response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.atomic import atomic_path
from mstar.storage.tables import ASKED, asked, open_table
from mstar.types import Prompt, StepLabels

_STEP_LABELS: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("response", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("num_correct", pa.list_(pa.int32())),
        ("num_total", pa.list_(pa.int32())),
        ("soft_labels", pa.list_(pa.float64())),
        ("hard_labels", pa.list_(pa.bool_())),
        ("correct", pa.bool_()),
        ("logprob", pa.float64()),
        ("chain_correct", pa.bool_()),
        ("finished", pa.bool_()),
    ]
)


def write_step_labels(path: Path, labels: Sequence[StepLabels], prompts: Sequence[Prompt] | None = None) -> None:
    """Writes step labels, one row a response."""
    table = tabulate_step_labels(labels)
    if prompts is not None:
        known = {prompt.id: prompt for prompt in prompts}
        rows = [asked(known[label.prompt_id]) for label in labels]
        for field in ASKED:
            table = table.append_column(field, pa.array([row[field.name] for row in rows], field.type))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def tabulate_step_labels(labels: Sequence[StepLabels]) -> pa.Table:
    """Step labels as an Arrow table, one row a response."""
    rows = [{name: getattr(label, name) for name in _STEP_LABELS.names} for label in labels]
    return pa.Table.from_pylist(rows, schema=_STEP_LABELS)


def read_step_labels(path: Path) -> list[StepLabels]:
    """Reads step labels.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    with open_step_labels(path) as file:
        return list(make_step_labels(file.read(_STEP_LABELS.names).to_pylist()))


def open_step_labels(path: Path) -> AbstractContextManager[pq.ParquetFile]:
    """Opens step labels, to be read some at a time; ``make_step_labels`` makes them of the rows.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return open_table(path, _STEP_LABELS)


def make_step_labels(rows: Iterable[Mapping[str, Any]]) -> Iterator[StepLabels]:
    """Step labels of the rows of their table."""
    names = [field.name for field in fields(StepLabels)]
    for row in rows:
        found: dict[str, Any] = {n: tuple(row[n]) if isinstance(row[n], list) else row[n] for n in names}
        yield StepLabels(**found)
