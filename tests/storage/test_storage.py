"""Files of a run: what is written is read back, or a clear error says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar import storage
from mstar.annotation.label_table import LabelTable
from mstar.errors import DataError
from mstar.prompts import TinyDice
from mstar.storage import ExampleFile, PromptResponses, RunDirectory
from mstar.types import Example, Fate, Prompt, Response, ScoredResponse, StepLabels, Verdict, VerdictStatus

FULL = ScoredResponse(
    Response("pool-0-3", 15, "red = 3\n\u2212\u00e9\U0001f3b2\nAnswer: 8", 17, True, 1.3, -4.125),
    Verdict(True, "8", VerdictStatus.GRADED),
    (0.1, 1 / 3, 0.9),
    0.1,
    False,
    Fate.KEPT,
)
BARE = ScoredResponse(
    Response("pool-0-3", 0, "", 0, False, 0.0, float("-inf")), Verdict(False, None, VerdictStatus.NO_ANSWER)
)
EXAMPLES = [Example("b", "two\nlines"), Example("a", ""), Example("b", "two\nlines")]
LABELS = [
    StepLabels("p", "a\nb", ("a\n", "b"), (1, 0), (4, 1), False, -2.5, True),
    StepLabels("q", "c", ("c",), (1,), (1,), True, finished=False),
]


def test_responses_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "iterations" / "0001" / "responses-00000.parquet"
    other = replace(FULL, response=replace(FULL.response, prompt_id="x"), fate=Fate.DUPLICATE)
    groups = [PromptResponses(TinyDice("pool", 4)[3], (BARE, FULL)), PromptResponses(Prompt("x", "?"), (other,))]
    storage.write_responses(path, groups)
    assert storage.read_responses(path) == [BARE, FULL, other]


def test_responses_name_their_prompt_and_reference_its_images(tmp_path: Path) -> None:
    path = tmp_path / "responses.parquet"
    prompt = TinyDice("pool", 4)[3]
    storage.write_responses(path, [PromptResponses(prompt, (FULL,))])
    row = pq.read_table(path).to_pylist()[0]
    assert row["question"] == prompt.question
    assert row["answer"] == prompt.answer
    assert row["category"] == prompt.category
    assert row["images"] == ["tiny-dice:pool/0/3"]


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


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    storage.write_responses(tmp_path / "responses.parquet", [])
    storage.write_examples(tmp_path / "examples.parquet", [])
    assert storage.read_responses(tmp_path / "responses.parquet") == []
    assert list(ExampleFile(tmp_path / "examples.parquet")) == []


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


def test_labels_of_several_shards_are_read_as_one_table(tmp_path: Path) -> None:
    for number in range(2):
        storage.write_step_labels(tmp_path / f"labels-{number:05d}.parquet", LABELS)
    assert list(LabelTable.read(sorted(tmp_path.glob("labels-*")))) == [*LABELS, *LABELS]


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


def test_a_value_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        storage.write_json(tmp_path / "report.json", {"bad": object()})
    with pytest.raises(UnicodeEncodeError):
        storage.write_examples(tmp_path / "examples.parquet", [Example("a", "lone surrogate \ud800")])
    assert list(tmp_path.iterdir()) == []


def test_layout_of_a_run_directory(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.iterations == []
    assert run.responses(3, 12) == tmp_path / "iterations" / "0003" / "responses-00012.parquet"
    assert run.examples(3) == tmp_path / "iterations" / "0003" / "examples.parquet"
    assert run.report(3) == tmp_path / "iterations" / "0003" / "report.json"
    for index in (12, 3):
        storage.write_json(run.report(index), {})
    (tmp_path / "iterations" / "0004-old").mkdir()
    assert run.iterations == [3, 12]
    for shard in (11, 2):
        storage.write_responses(run.responses(3, shard), [])
    assert run.response_shards(3) == [run.responses(3, 2), run.responses(3, 11)]
    assert run.response_shards(12) == []
