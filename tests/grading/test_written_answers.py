"""Answers as models write them, with what a careful person would say: bars, because a few are known to be missed.

The adversarial ones were written without knowledge of any rules, the attacks with an earlier grader's code at hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mstar.grading import AnswerGrader
from mstar.grading.answer import make_reader
from mstar.grading.commitment import read_bare, read_commitment, relevant_part
from mstar.prompts.response_rows import to_prompt

FOLDER = Path(__file__).parent
GRADER = AnswerGrader()


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def read_graded() -> list[dict[str, Any]]:
    """A row of the file is one question with several responses."""
    return [
        row | {"response": response, "right": kind == "right"}
        for row in read("graded_answers.jsonl")
        for kind in ("right", "wrong")
        for response in row.get(kind, ())
    ]


def is_judged_well(row: dict[str, Any], grader: AnswerGrader = GRADER) -> bool:
    return grader.grade(to_prompt(row, "p"), row["response"]).correct is row["right"]


def has_form(row: dict[str, Any]) -> bool:
    """Whether a response commits by a box, a tag or a marker, or is nothing but an answer."""
    prompt = to_prompt(row, "p")
    text, reader = relevant_part(row["response"], prompt.question), make_reader(prompt)
    return read_commitment(text, reader)[0] or read_bare(text, reader) is not None


def test_adversarial_answers_that_commit_in_a_form() -> None:
    rows = read("adversarial_forms.jsonl")
    missed = [row["response"] for row in rows if not is_judged_well(row)]
    assert len(missed) <= 0.02 * len(rows), missed


def test_answers_in_every_form_that_models_use() -> None:
    rows = [row for row in read_graded() if has_form(row)]
    assert len(rows) > 1900
    missed = [row["response"] for row in rows if not is_judged_well(row)]
    assert len(missed) <= 0.01 * len(rows), missed


def test_one_line_answers_that_commit_in_a_form() -> None:
    rows = [row for row in read("one_line_answers.jsonl") if has_form(row)]
    assert len(rows) > 400
    missed = [row["response"] for row in rows if not is_judged_well(row)]
    assert len(missed) <= 0.02 * len(rows), missed


def test_attacks() -> None:
    rows = read("attacks.jsonl")
    assert sum(map(is_judged_well, rows)) >= 115


def test_what_states_no_answer_in_a_form_is_hardly_ever_accepted_though_wrong() -> None:
    rows = [row for row in read("adversarial_sentences.jsonl") if not row["right"]]
    accepted = [row["response"] for row in rows if not is_judged_well(row)]
    assert len(accepted) <= 0.03 * len(rows), accepted
