"""Answers as models write them, with what a careful person would say; and the few known to be missed.

The adversarial ones were written without knowledge of the grader's rules, the attacks with its code at hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mstar.grading import AnswerGrader
from mstar.grading.command import to_prompt

GRADER = AnswerGrader()


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()]


ROWS = [*read("one_line_answers.jsonl"), *read("adversarial_answers.jsonl")]
ATTACKS = read("attacks.jsonl")


def grade(row: dict[str, Any]) -> bool:
    return GRADER.grade(to_prompt(row, "p"), row["response"]).correct


@pytest.mark.parametrize(
    "row", [row for row in [*ROWS, *ATTACKS] if not row.get("known_miss")], ids=lambda row: row["response"][:40]
)
def test_the_verdict_is_that_of_a_careful_person(row: dict[str, Any]) -> None:
    assert grade(row) is row["right"]


def test_the_known_misses_are_few_and_still_missed() -> None:
    missed = [row for row in ROWS if row.get("known_miss")]
    assert len(missed) <= len(ROWS) / 50
    missed += [row for row in ATTACKS if row.get("known_miss")]
    assert [row["response"] for row in missed if grade(row) is row["right"]] == []
