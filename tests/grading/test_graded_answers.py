"""Answers in every form that models use, with what a careful person would say; and the few known to be missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mstar.grading import AnswerGrader
from mstar.grading.command import to_prompt

GRADER = AnswerGrader()
# A row is one question: responses that are right, that are wrong, and whose verdict is known to be the opposite.
ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "graded_answers.jsonl").read_text(encoding="utf-8").splitlines()
]
RESPONSES = sum(len(row.get(key, ())) for row in ROWS for key in ("right", "wrong", "missed"))


def is_right(row: dict[str, Any], response: str) -> bool:
    return GRADER.grade(to_prompt(row, "p"), response).correct


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['answer_type']} {row['answer']}")
def test_the_verdicts_are_those_of_a_careful_person(row: dict[str, Any]) -> None:
    assert [response for response in row.get("right", ()) if not is_right(row, response)] == []
    assert [response for response in row.get("wrong", ()) if is_right(row, response)] == []


def test_the_known_misses_are_few() -> None:
    missed = sum(len(row.get("missed", ())) for row in ROWS)
    assert 0 < missed <= RESPONSES / 100
