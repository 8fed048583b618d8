"""MathVista's published rules, by hand from its extraction and scoring code."""

from __future__ import annotations

import pytest

from mstar.grading import MathVistaGrader
from mstar.types import AnswerType, Prompt, VerdictStatus

GRADER = MathVistaGrader()
CHOICE, INTEGER, FLOAT, LIST = AnswerType.MULTI_CHOICE, AnswerType.INTEGER, AnswerType.FLOAT, AnswerType.LIST
ANGLES = ("135°", "140°", "145°", "150°")


@pytest.mark.parametrize(
    ("kind", "gold", "response", "predicted", "correct"),
    [
        (CHOICE, "145°", "145°", "145°", True),
        (CHOICE, "145°", "C", "145°", True),
        (CHOICE, "145°", "(C)", "145°", True),
        (CHOICE, "145°", "(c) 145", "145°", True),
        (CHOICE, "140°", "(B) 145°", "140°", True),
        (CHOICE, "145°", "145", "145°", True),
        (CHOICE, "135°", "", "135°", True),
        (CHOICE, "145°", "E", "135°", False),
        (CHOICE, "145°", "The answer is (C) 145°, see figure (a).", "145°", True),
        (CHOICE, "145°", "In figure (a) the angles add up to 180°. So x is 145°.\nAnswer: C", "145°", True),
        (CHOICE, "145°", "Figure (b) shows two lines.\nAnswer: 145°", "145°", True),
        (CHOICE, "145°", "First I check option (A), which is too small.\nThe answer is (C).", "145°", True),
        (CHOICE, "145°", f"First I check option (A){', which is small' * 30}. The answer is (C).", "145°", True),
        (INTEGER, "7", "7", "7", True),
        (INTEGER, "7", "7.9", "7", True),
        (INTEGER, "0", "-0.5", "0", True),
        (INTEGER, "13", "13.0", "13", True),
        (INTEGER, "7", "The answer is 7.", "7", True),
        (INTEGER, "7", "inf", None, False),
        (INTEGER, "7", "nan", None, False),
        (INTEGER, "7", "seven or eight", None, False),
        (FLOAT, "1.2", "1.24", "1.2", True),
        (FLOAT, "1.2", "1.25", "1.2", True),
        (FLOAT, "1.2", "1.2e0", "1.2", True),
        (FLOAT, "1.2", "one", "1.0", False),
        (LIST, "[2014, 2016]", "[2014, 2016]", "[2014, 2016]", True),
        (LIST, "[2014, 2016]", "[2014,2015]", "[2014, 2015]", False),
    ],
)
def test_the_published_rules(kind: AnswerType, gold: str, response: str, predicted: str | None, correct: bool) -> None:
    prompt = Prompt("p", "q", answer=gold, answer_type=kind, choices=ANGLES if kind is CHOICE else (), precision=1)
    verdict = GRADER.grade(prompt, response)
    assert (verdict.predicted, verdict.correct) == (predicted, correct)


def test_a_float_without_a_precision_cannot_be_scored() -> None:
    assert GRADER.grade(Prompt("p", "q", answer="1.2", answer_type=FLOAT), "1.2").status is VerdictStatus.NO_ANSWER


def test_without_a_gold_answer_nothing_is_right() -> None:
    prompt = Prompt("p", "q", answer_type=INTEGER)
    assert GRADER.grade(prompt, "7").status is VerdictStatus.UNGRADEABLE_GOLD
