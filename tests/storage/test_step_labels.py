"""Step labels in a file: what is written is read back, beside what was asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from mstar import storage
from mstar.annotation.label_table import LabelTable
from mstar.prompts import TinyDice
from mstar.storage import ExampleFile
from mstar.types import Prompt

from .conftest import EXAMPLES, LABELS  # type: ignore[import-not-found]


def test_examples_and_step_labels_come_back_as_they_were(tmp_path: Path) -> None:
    storage.write_examples(tmp_path / "examples.parquet", EXAMPLES)
    storage.write_step_labels(tmp_path / "labels.parquet", LABELS)
    assert list(ExampleFile(tmp_path / "examples.parquet")) == EXAMPLES
    assert storage.read_step_labels(tmp_path / "labels.parquet") == LABELS


def test_step_labels_say_what_was_asked(tmp_path: Path) -> None:
    prompt = TinyDice("pool", 4)[3]
    labels = [replace(LABELS[1], prompt_id=prompt.id), replace(LABELS[0], prompt_id="x")]
    storage.write_step_labels(tmp_path / "labels.parquet", labels, [Prompt("x", "?"), prompt])
    storage.write_step_labels(tmp_path / "none.parquet", [], [])
    assert storage.read_step_labels(tmp_path / "labels.parquet") == labels
    table = pq.read_table(tmp_path / "labels.parquet")
    assert table["question"].to_pylist() == [prompt.question, "?"]
    assert table["images"].to_pylist() == [[prompt.images[0].uri], []]
    assert table["answer"].to_pylist() == [prompt.answer, None]
    # A data set of shards needs the same columns in each.
    assert pq.read_schema(tmp_path / "none.parquet") == table.schema


def test_labels_of_several_shards_are_read_as_one_table(tmp_path: Path) -> None:
    for number in range(2):
        storage.write_step_labels(tmp_path / f"labels-{number:05d}.parquet", LABELS)
    assert list(LabelTable.read(sorted(tmp_path.glob("labels-*")))) == [*LABELS, *LABELS]
