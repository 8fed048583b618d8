"""Responses in a file: what is written is read back, with its prompt, or without what nobody asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from mstar import storage
from mstar.prompts import TinyDice
from mstar.storage import (
    ExampleFile,
    PromptResponses,
    read_responses,
    write_responses,
)
from mstar.types import Fate, Prompt, Response, ScoredResponse, Verdict, VerdictStatus

from .conftest import BARE, FULL  # type: ignore[import-not-found]


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


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    storage.write_responses(tmp_path / "responses.parquet", [])
    storage.write_examples(tmp_path / "examples.parquet", [])
    assert storage.read_responses(tmp_path / "responses.parquet") == []
    assert list(ExampleFile(tmp_path / "examples.parquet")) == []


def test_the_responses_to_some_prompts_are_read_without_their_tokens(tmp_path: Path) -> None:
    groups = []
    for name in "abc":
        response = Response(name, 0, "r", 2, True, 1.0, -1.0, tokens=(1, 2), logprobs=(-0.5, -0.5))
        scored = ScoredResponse(response, Verdict(True, "1", VerdictStatus.GRADED), fate=Fate.KEPT)
        groups.append(PromptResponses(Prompt(name, "?"), (scored,)))
    write_responses(tmp_path / "shard.parquet", groups)
    found = read_responses(tmp_path / "shard.parquet", ["c", "a", "gone"])
    assert [(s.response.prompt_id, s.response.text, s.response.tokens) for s in found] == [
        ("a", "r", ()),
        ("c", "r", ()),
    ]
