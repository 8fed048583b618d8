"""Examples in a file: read group by group, and sent to other processes by their path."""

from __future__ import annotations

import pickle
import random
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import mstar.storage.examples
from mstar import interruption
from mstar.errors import DataError
from mstar.storage import (
    ExampleFile,
    PromptResponses,
    order_examples,
    read_responses,
    write_examples,
    write_responses,
)
from mstar.storage.responses import CREDIT, TOKENS, WEIGHT
from mstar.types import Example, Fate, Prompt, Response, ScoredResponse, Verdict, VerdictStatus

EXAMPLES = [Example(f"p{i}", f"response {i}") for i in range(2500)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "examples.parquet"
    write_examples(path, iter(EXAMPLES))
    return path


def test_it_is_a_sequence(path: Path) -> None:
    examples = ExampleFile(path)
    assert len(examples) == 2500
    assert list(examples) == EXAMPLES
    assert (examples[0], examples[1023], examples[1024], examples[-1]) == tuple(
        EXAMPLES[i] for i in (0, 1023, 1024, 2499)
    )
    assert examples[1020:1030:3] == EXAMPLES[1020:1030:3]
    for index in (2500, -2501):
        with pytest.raises(IndexError):
            examples[index]


def test_few_groups_are_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mstar.storage.examples, "_HELD", 2)
    examples = ExampleFile(path)
    for index in (0, 2499, 5, 1500, 2):
        assert examples[index] == EXAMPLES[index]
        assert len(examples._held) <= 2
    # The group that was used last before the third came in has stayed.
    assert set(examples._held) == {0, 1}


def test_it_is_sent_to_a_process_by_its_path(path: Path) -> None:
    examples = ExampleFile(path)
    assert examples[3] == EXAMPLES[3]
    sent = pickle.dumps(examples)
    assert len(sent) < 1000
    assert list(pickle.loads(sent)) == EXAMPLES  # noqa: S301 - what the line before has written


def test_what_samples_are_worth_is_kept_exactly(tmp_path: Path) -> None:
    worth = [Example("a", "x", 0.1, -0.3, (3, 1), (-0.5, -0.25)), Example("a", "y", 1.0, 0.3, (2,), (-1.5,))]
    write_examples(tmp_path / "worth.parquet", worth, [*CREDIT.names, *TOKENS.names])
    assert list(ExampleFile(tmp_path / "worth.parquet")) == worth
    assert ExampleFile(tmp_path / "worth.parquet").credited


@pytest.mark.parametrize("weight", [1.0, 0.75])
def test_files_have_weights_only_where_one_is_not_1(tmp_path: Path, weight: float) -> None:
    shard, path = tmp_path / "shard.parquet", tmp_path / "examples.parquet"
    scored = [
        ScoredResponse(
            Response("p", index, text, 2, True, 1.0, -1.0),
            Verdict(True, "1", VerdictStatus.GRADED),
            fate=Fate.KEPT,
            weight=value,
        )
        for index, (text, value) in enumerate({"a": 1.0, "b": weight}.items())
    ]
    write_responses(shard, [PromptResponses(Prompt("p", "?"), tuple(scored))])
    assert read_responses(shard) == scored
    order_examples([shard], path, 0)
    assert sorted(ExampleFile(path), key=lambda e: e.response) == [Example("p", "a"), Example("p", "b", weight)]
    assert ExampleFile(path).credited == ("weight" in pq.read_schema(shard).names) == (weight != 1)


def test_files_of_a_run_have_the_same_columns_whatever_they_hold(tmp_path: Path) -> None:
    """Those of an iteration before the votes begin, or that kept nothing, open with those of later ones."""
    shard, path = tmp_path / "shard.parquet", tmp_path / "examples.parquet"
    answer = Response("p", 0, "a", 2, True, 1.0, -1.0)
    kept = ScoredResponse(answer, Verdict(True, "1", VerdictStatus.GRADED), fate=Fate.KEPT)
    for worth in (WEIGHT.names, [*CREDIT.names, *TOKENS.names]):
        for scored in ((kept,), ()):
            write_responses(shard, [PromptResponses(Prompt("p", "?"), scored)], always=worth)
            order_examples([shard], path, 0)
            assert pq.read_schema(path).names == ["prompt_id", "response", *worth]
            # Examples that all count alike are no others than without weights.
            assert ExampleFile(path).credited == (worth != WEIGHT.names)


def test_the_examples_of_a_shard_and_those_of_before_in_one_order(tmp_path: Path) -> None:
    def scored(index: int, text: str, advantage: float | None = None) -> ScoredResponse:
        tokens = () if advantage is None else (1, 2)
        response = Response("p", index, text, 2, True, 1.0, -1.0, tokens, tuple(-0.5 for _ in tokens))
        verdict = Verdict(True, "1", VerdictStatus.GRADED)
        return ScoredResponse(response, verdict, fate=Fate.KEPT, advantage=advantage)

    shard, before, path = (tmp_path / f"{name}.parquet" for name in ("shard", "before", "examples"))
    write_examples(before, [Example("p", "old"), Example("q", "other")])
    write_responses(shard, [PromptResponses(Prompt("p", "?"), (scored(0, "old"), scored(1, "new"), scored(2, "new")))])
    order_examples([shard], path, 0, before)
    # What was there before counts once; copies within an iteration are the selection's business.
    assert sorted(e.response for e in ExampleFile(path)) == ["new", "new", "old", "other"]
    order_examples([shard], path, 0)
    assert sorted(e.response for e in ExampleFile(path)) == ["new", "new", "old"]
    group = PromptResponses(Prompt("p", "?"), (scored(0, "a", 0.5), scored(1, "b", -0.5)))
    write_responses(shard, [group])
    assert read_responses(shard) == list(group.responses)
    order_examples([shard], path, 0)
    found = sorted(ExampleFile(path), key=lambda e: e.response)
    assert found == [
        Example("p", "a", 1.0, 0.5, (1, 2), (-0.5,) * 2),
        Example("p", "b", 1.0, -0.5, (1, 2), (-0.5,) * 2),
    ]


def _write_shard(path: Path, prompt_id: str, texts: list[str], fate: Fate = Fate.KEPT) -> None:
    verdict = Verdict(True, "1", VerdictStatus.GRADED)
    scored = (
        ScoredResponse(
            Response(prompt_id, index, text, 2, True, 1.0, -1.0, (index,), (-0.5,)), verdict, fate=fate, advantage=0.5
        )
        for index, text in enumerate(texts)
    )
    write_responses(path, [PromptResponses(Prompt(prompt_id, "?"), tuple(scored))])


def test_the_order_is_that_of_a_sorted_list_shuffled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mstar.storage.examples, "_GROUP", 4)
    # The second is before the first by UTF-16, and equal texts stay in the order of their samples.
    texts = {"b": ["x", "\U0001d11e", "\ufb00", "x"], "a\U0001d11e": ["y"], "a\ufb00": ["", "z"], "c": []}
    shards = [tmp_path / f"{number}.parquet" for number in range(5)]
    for shard, (prompt_id, responses) in zip(shards, texts.items(), strict=False):
        _write_shard(shard, prompt_id, responses)
    _write_shard(shards[-1], "d", ["wrong"], Fate.WRONG)
    expected = sorted(
        (prompt_id, text, index) for prompt_id, responses in texts.items() for index, text in enumerate(responses)
    )
    random.Random(7).shuffle(expected)
    order_examples(shards, tmp_path / "examples.parquet", 7)
    assert [(e.prompt_id, e.response, *e.tokens) for e in ExampleFile(tmp_path / "examples.parquet")] == expected


def test_it_stops_when_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_shard(tmp_path / "shard.parquet", "p", ["a"])
    monkeypatch.setattr(interruption, "_received", signal.SIGTERM)
    with pytest.raises(interruption.Interrupted):
        order_examples([tmp_path / "shard.parquet"], tmp_path / "examples.parquet", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["shard.parquet"]


def test_without_examples(tmp_path: Path) -> None:
    write_examples(tmp_path / "none.parquet", ())
    assert list(ExampleFile(tmp_path / "none.parquet")) == []


def test_a_file_that_is_missing_or_damaged_or_something_else(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.parquet does not exist"):
        ExampleFile(tmp_path / "gone.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read as Parquet"):
        ExampleFile(tmp_path / "cut.parquet")
