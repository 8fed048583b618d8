"""Files of a run: what is written is read back, or a clear error says why not."""

from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar import storage
from mstar.errors import DataError
from mstar.storage import ExampleFile, PromptResponses
from mstar.types import Example, Prompt

from .conftest import BARE, EXAMPLES, FULL, LABELS  # type: ignore[import-not-found]


def test_datasets_opens_every_file(tmp_path: Path) -> None:
    storage.write_responses(tmp_path / "responses-00000.parquet", [PromptResponses(Prompt("p", "?"), (BARE,))])
    storage.write_responses(tmp_path / "responses-00001.parquet", [PromptResponses(Prompt("p", "?"), (FULL,))])
    storage.write_step_labels(tmp_path / "labels.parquet", LABELS)

    def load(pattern: str) -> list[dict[str, object]]:
        files = str(tmp_path / pattern)
        rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        return list(rows)

    responses = load("responses-*.parquet")
    assert [row["response"] for row in responses] == ["", FULL.response.text]
    assert [row["fate"] for row in responses] == [None, "kept"]
    assert [row["step_scores"] for row in responses] == [[], [0.1, 1 / 3, 0.9]]
    labels = load("labels.parquet")
    assert [row["soft_labels"] for row in labels] == [[0.25, 0.0], [1.0]]
    assert [row["hard_labels"] for row in labels] == [[True, False], [True]]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (storage.read_responses, ExampleFile, storage.read_step_labels, storage.read_json):
        with pytest.raises(DataError, match=r"gone\.parquet does not exist"):
            read(tmp_path / "gone.parquet")


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _scramble_footer(content: bytes) -> bytes:
    size = int.from_bytes(content[-8:-4], "little")
    return content[: -8 - size] + b"\xff" * size + content[-8:]


def _scramble_pages(content: bytes) -> bytes:
    return content[:4] + b"\xff" * 60 + content[64:]


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: b"prompt_id,response\n", _cut, _scramble_footer, _scramble_pages]
)
def test_a_damaged_file_is_named(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "examples.parquet"
    storage.write_examples(path, EXAMPLES)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"examples\.parquet"):
        list(ExampleFile(path))


def test_a_file_of_other_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "examples.parquet"
    pq.write_table(pa.table({"prompt_id": ["a"], "text": ["b"]}), path)
    with pytest.raises(DataError, match=r"examples\.parquet lacks the columns \['response'\]"):
        list(ExampleFile(path))


def test_columns_that_are_not_ours_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "examples.parquet"
    pq.write_table(pa.table({"note": ["n"], "response": ["b"], "prompt_id": ["a"]}), path)
    assert list(ExampleFile(path)) == [Example("a", "b")]


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {"name": "\u2212\u00e9", "counts": [1, 2.5, None], "nested": {"a": True}}
    storage.write_json(tmp_path / "new" / "report.json", value)
    assert storage.read_json(tmp_path / "new" / "report.json") == value


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"{", "is not a JSON file"), (b"\xff", "is not a JSON file"), (b"[1]", "a JSON list")]
)
def test_json_that_is_no_object_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        storage.read_json(path)


def test_what_stands_for_a_file_is_named(tmp_path: Path) -> None:
    """A run's folder may be kept in a repository; nothing in it is to be deleted then."""
    path = tmp_path / "file"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
    for read in (storage.read_json, storage.read_responses):
        with pytest.raises(DataError, match=r"file is a Git LFS pointer.*: run 'git lfs pull' in its repository\.?$"):
            read(path)


def test_a_value_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        storage.write_json(tmp_path / "report.json", {"bad": object()})
    with pytest.raises(UnicodeEncodeError):
        storage.write_examples(tmp_path / "examples.parquet", [Example("a", "lone surrogate \ud800")])
    assert list(tmp_path.iterdir()) == []
