"""AI2D: answers that count from zero, and those that are letters."""

from __future__ import annotations

from typing import Any

from mstar.grading import AnswerGrader
from mstar.prompts.benchmarks import AI2D


def test_ai2d_answers_count_from_zero(files: Any, shown: Any) -> None:
    source = AI2D(str(files.ai2d_parquet()))
    assert [p.answer for p in source] == ["c", "Egg"]
    assert [shown(p.images[0], i) for i, p in enumerate(source)] == [True, True]
    grader = AnswerGrader()
    assert grader.grade(source[0], "The answer is (A)").correct
    assert not grader.grade(source[0], "The answer is (C)").correct
    assert grader.grade(source[1], "The answer is B").correct


def test_ai2d_tsv_answers_are_letters(files: Any, shown: Any) -> None:
    [prompt] = AI2D(str(files.ai2d_tsv()))
    assert (prompt.answer, prompt.choices, prompt.category) == ("c", ("c", "D", "b", "a"), "foodChains")
    assert shown(prompt.images[0], 0)


def test_an_instruction_is_added_to_every_question(files: Any) -> None:
    source = AI2D(str(files.ai2d_parquet()), instruction="Think step by step.")
    assert source.instruction == "Think step by step."
    assert all(p.question.endswith("(D) a\nThink step by step.") or "Butterfly\nThink" in p.question for p in source)
