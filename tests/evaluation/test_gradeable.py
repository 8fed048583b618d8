"""Prompts are checked before a run."""

from __future__ import annotations

import re

import pytest

from mstar.errors import DataError
from mstar.evaluation.gradeable import check_prompts
from mstar.grading import AnswerGrader
from mstar.prompts import TinyDice
from mstar.types import AnswerType, Prompt


def test_prompts_that_can_be_sampled_and_graded_pass() -> None:
    check_prompts(TinyDice("pool", 4), "data.train", AnswerGrader())


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
        check_prompts(prompts, "data.train", AnswerGrader())


def test_hidden_answers_are_not_sent_to_where_they_are() -> None:
    with pytest.raises(DataError, match=r"no answer.*rollout\.unlabelled: voting.*hide_answers") as error:
        check_prompts([Prompt("b", "?")], "data.unlabelled", AnswerGrader())
    assert "move it to" not in str(error.value)


def test_gold_answers_that_cannot_be_graded_are_announced(capsys: pytest.CaptureFixture[str]) -> None:
    """By category, before anything is sampled; a source of which most cannot be is refused."""
    good = [Prompt(str(i), "?", answer="1", answer_type=AnswerType.INTEGER, category="count") for i in range(2)]
    bad = [Prompt(f"b{i}", "?", answer="many", answer_type=AnswerType.INTEGER, category="read") for i in range(3)]
    check_prompts(good + bad[:2], "data.train", AnswerGrader())
    assert "data.train: 2 of 4 gold answers cannot be graded (read 2)" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"data.train: 3 of 5 gold answers cannot be graded \(read 3\)"):
        check_prompts(good + bad, "data.train", AnswerGrader())
