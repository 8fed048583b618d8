"""Prompts are checked, and a folder is kept to one iteration of one run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mstar.callbacks.training_data import check_prompts, claim_iteration, fingerprint_prompts, make_facts
from mstar.errors import DataError
from mstar.generation import TransformersEngine
from mstar.grading import ExactGrader
from mstar.prompts import TinyDice
from mstar.storage import RunDirectory, read_json
from mstar.types import Prompt

FACTS = {"policy_compute": "float32", "plan": "one", "policy": "abc"}


class Typed(TransformersEngine):
    """An engine with a type of its own for the weights, where VllmEngine has it."""

    def __init__(self, dtype: str = "auto", **settings: Any) -> None:
        super().__init__(**settings)
        self.options = SimpleNamespace(dtype=dtype)


class Marked(ExactGrader):
    """A grader with settings; one of them is an object of its own."""

    def __init__(self, marker: str = "Answer", words: tuple[str, ...] = (), other: object = None) -> None:
        self.marker = marker
        self.words = words
        self.other = object() if other is None else other


def test_the_facts_hold_what_responses_and_verdicts_depend_on() -> None:
    facts = make_facts(Typed(max_new_tokens=5), Marked())
    assert facts == {
        "engine": "Typed",
        "max_new_tokens": 5,
        "dtype": "auto",
        "grader": "Marked",
        "grader_settings": {"marker": "Answer", "words": []},
    }
    # Another object of the same settings is no difference, nor is how many responses are written at a time.
    assert make_facts(Typed(max_new_tokens=5, batch_size=3), Marked()) == facts
    for engine, grader in (
        (Typed("bfloat16", max_new_tokens=5), Marked()),
        (Typed(max_new_tokens=6), Marked()),
        (Typed(max_new_tokens=5), Marked("Result")),
        (Typed(max_new_tokens=5), Marked(words=("so",))),
    ):
        assert make_facts(engine, grader) != facts


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path)
    claim_iteration(made, 1, FACTS)
    (made.iteration(1) / "responses-00000.parquet").write_text("first")
    return made


def folders(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in (run.root / "iterations").iterdir())


def test_the_facts_are_written(run: RunDirectory) -> None:
    assert read_json(run.plan(1)) == FACTS


def test_the_same_facts_keep_the_shards(run: RunDirectory) -> None:
    claim_iteration(run, 1, dict(reversed(FACTS.items())))
    assert folders(run) == ["0001"]
    assert run.responses(1, 0).read_text() == "first"


def test_other_facts_move_the_folder_aside(run: RunDirectory) -> None:
    for number in (1, 2):
        claim_iteration(run, 1, FACTS | {"plan": f"other {number}"})
    assert folders(run) == ["0001", "0001.old-1", "0001.old-2"]
    assert (run.root / "iterations/0001.old-1/responses-00000.parquet").read_text() == "first"
    assert not run.responses(1, 0).exists()
    assert run.iterations == [1]


def test_a_folder_without_facts_is_moved_aside(run: RunDirectory) -> None:
    run.plan(1).unlink()
    claim_iteration(run, 1, FACTS)
    assert folders(run) == ["0001", "0001.old-1"]


def test_later_iterations_belong_to_an_earlier_run(run: RunDirectory) -> None:
    claim_iteration(run, 2, FACTS)
    claim_iteration(run, 3, FACTS)
    claim_iteration(run, 2, FACTS)
    assert folders(run) == ["0001", "0002", "0003.old-1"]


def test_the_fingerprint_follows_what_responses_and_verdicts_depend_on() -> None:
    prompts = list(TinyDice("pool", 3))
    same = list(TinyDice("pool", 9))[:3]
    assert fingerprint_prompts(prompts) == fingerprint_prompts(same)
    others = [
        prompts[:2],
        prompts[::-1],
        [replace(prompts[0], answer="other"), *prompts[1:]],
        [replace(prompts[0], question="other"), *prompts[1:]],
        [replace(prompts[0], images=prompts[1].images), *prompts[1:]],
    ]
    assert len({fingerprint_prompts(each) for each in [prompts, *others]}) == 6


class Listed(TinyDice):
    def __init__(self, prompts: list[Prompt]) -> None:
        super().__init__("pool", 1)
        self.prompts = prompts
        self.size = len(prompts)

    def __getitem__(self, index: int) -> Prompt:
        return self.prompts[index]


def test_prompts_that_can_be_sampled_and_graded_pass() -> None:
    check_prompts(TinyDice("pool", 4), "data.train", ExactGrader())


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        ([], "data.train has no prompts"),
        ([Prompt("a", "?", answer="1"), Prompt("b", "?")], "data.train: prompt 'b' (row 1) has no answer"),
        ([Prompt("a", "?", answer="1")] * 2, "data.train: row 1 repeats the prompt id 'a'"),
    ],
)
def test_others_are_refused(prompts: list[Prompt], complaint: str) -> None:
    with pytest.raises(DataError, match=re.escape(complaint)):
        check_prompts(Listed(prompts), "data.train", ExactGrader())
