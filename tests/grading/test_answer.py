"""The grader as a whole: kinds of gold answers, votes, and what looks alike."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mstar.types import VerdictStatus
from tests.grading.frames import TOWNS, check, grade

ALIKE = Path(__file__).with_name("alike.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", ALIKE)
def test_what_looks_alike(line: str) -> None:
    """One answer in other spellings, and others that differ from it by a sign, a letter's case, or a unit."""
    row = json.loads(line)
    check(row, row.pop("right"), row.pop("wrong"))


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        ({"answer": "USA", "answers": ["United States", "America"]}, ["USA", "united states", "America"], ["Canada"]),
        ({"answer": "7", "answers": ["8"], "answer_type": "integer"}, ["7", "8", "eight"], ["9", "7 or 9"]),
        # A gold answer among several that cannot be read leaves the others.
        ({"answer": "unknown", "answers": ["8"], "answer_type": "integer"}, ["8"], ["7"]),
    ],
)
def test_several_gold_answers(row: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    check(row, right, wrong)


@pytest.mark.parametrize(
    "gold",
    [
        r"\boxed{42}",
        "<answer>42</answer>",
        "#### 42",
        "6 * 7 = 42.\n#### 42",
        r"So it is $\boxed{42}$.",
        "The answer is 42.",
    ],
)
def test_gold_answers_in_a_wrapping(gold: str) -> None:
    for kind in ("integer", "float", "text"):
        check({"answer": gold, "answer_type": kind}, ["42"], ["41", "6"])
    check({"answer": gold.replace("42", "B"), "answer_type": "multi_choice", "choices": TOWNS}, ["B", "Turin"], ["A"])


@pytest.mark.parametrize(
    "row",
    [
        {"answer": "many", "answer_type": "integer"},
        {"answer": "2.5", "answer_type": "integer"},
        {"answer": "E", "answer_type": "multi_choice", "choices": TOWNS},
        {"answer": "9", "answer_is": "index0", "answer_type": "multi_choice", "choices": TOWNS},
        {"answer": "[5, 5, 1, 1]", "answer_type": "box"},
        {"answer": "A, F", "answer_type": "multi_select", "choices": TOWNS},
    ],
)
def test_gold_answers_that_nothing_can_equal(row: dict[str, Any]) -> None:
    verdict = grade(str(row["answer"]), **row)
    assert verdict.status is VerdictStatus.UNGRADEABLE_GOLD
    assert not verdict.correct


def test_two_responses_that_say_the_same_are_voted_for_as_one() -> None:
    for gold in ("12", None):
        row = {"answer": gold, "answer_type": "integer"}
        assert grade("So we have 12.0 apples.\nAnswer: twelve", **row).predicted == "12"
        assert grade(r"\boxed{12}", **row).predicted == "12"


def test_what_is_read_does_not_depend_on_the_gold_answer() -> None:
    for response in ("It is 7 (3 + 4).", "The answer is 12, because 5 + 7 = 12.", "Answer: 36 - that is 6 squared"):
        read = {
            grade(response, answer=gold, answer_type="integer").predicted for gold in ("7", "4", "12", "5", "36", None)
        }
        assert len(read) == 1, (response, read)


def test_answers_of_which_nothing_is_known_are_voted_for_by_what_they_say() -> None:
    """Data without answers has no type either, and spellings are no candidates of a vote."""

    def said(*texts: str) -> set[str | None]:
        return {grade(f"x = y\nAnswer: {text}", answer=None, answer_type="text").predicted for text in texts}

    assert len(said("0.5", ".5", "0.50", "1/2", r"\frac{1}{2}")) == 1
    assert len(said("12", "12.0", "twelve")) == len(said("1,200", "1200")) == len(said("[1, 2]", "(1,2)")) == 1
    assert len(said(".5", "5", "-5", "50")) == 4
    assert said("Red", "red.") == {"red"}


def test_a_loop_of_signs_behind_a_heading_costs_no_time() -> None:
    start = time.process_time()
    grade("Answer: a b c d e f g h i j k\n" + "-\n" * 11_000 + "x", answer="5", answer_type="integer")
    assert time.process_time() - start < 2
