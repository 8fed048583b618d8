"""Grading by an answer marker and an exact comparison."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstar.grading import ExactGrader
from mstar.types import AnswerType, Prompt, Verdict, VerdictStatus

GRADER = ExactGrader()


def prompt(answer: str | None, kind: AnswerType = AnswerType.TEXT, choices: tuple[str, ...] = ()) -> Prompt:
    return Prompt("p", "q", answer=answer, answer_type=kind, choices=choices)


@pytest.mark.parametrize(
    ("response", "predicted"),
    [
        ("red = 3\nAnswer: yes", "yes"),
        ("answer : Yes.\nbecause", "yes"),
        ("ANSWER:yes", "yes"),
        ("So the answer is yes.", "yes"),
        ("The answer is: yes", "yes"),
        ("Answer: no\nNo, wait.\nAnswer: yes", "yes"),
        ("Answer: no. Or rather, answer: yes", "yes"),
        ("Answer:  dark \t Red .", "dark red"),
        ("Answer: yes\r\nbye", "yes"),
        ("yes", None),
        ("Answer:\nyes", None),
        ("Answer: .", None),
        ("Answer: no\nAnswer:", None),
        ("The answers: yes", None),
        ("", None),
    ],
)
def test_the_answer_is_what_follows_the_last_marker(response: str, predicted: str | None) -> None:
    verdict = GRADER.grade(prompt("yes"), response)
    assert verdict.predicted == predicted
    assert verdict.status is (VerdictStatus.NO_ANSWER if predicted is None else VerdictStatus.GRADED)
    assert verdict.correct is (predicted == "yes")


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "predicted", "correct"),
    [
        (AnswerType.TEXT, "Dark  red.", "dark RED", "dark red", True),
        (AnswerType.TEXT, "red", "red or blue", "red or blue", False),
        (AnswerType.INTEGER, "7", "07", "7", True),
        (AnswerType.INTEGER, "007", "+7.", "7", True),
        (AnswerType.INTEGER, "-7", "7", "7", False),
        (AnswerType.INTEGER, "0", "-00", "0", True),
        (AnswerType.INTEGER, "7", "7 or 8", "7 or 8", False),
        (AnswerType.INTEGER, "7", "seven", "seven", False),
        (AnswerType.FLOAT, "3.14", "3.14159", "3.14", True),
        (AnswerType.FLOAT, "3.14", "3.145", "3.15", False),
        (AnswerType.FLOAT, "0.5", ".50", "0.5", True),
        (AnswerType.FLOAT, "2.0", "2", "2.0", True),
        (AnswerType.FLOAT, "2", "2.4", "2", True),
        (AnswerType.FLOAT, "0.0", "-0.04", "0.0", True),
        (AnswerType.FLOAT, "-1.5", "1.5", "1.5", False),
        (AnswerType.FLOAT, "1.5", "1.5 cm", "1.5 cm", False),
        (AnswerType.FLOAT, "1.5", "nan", "nan", False),
        (AnswerType.LIST, "[1, 2]", "[1, 2]", "[1, 2]", True),
    ],
)
def test_how_each_type_is_compared(kind: AnswerType, gold: str, answer: str, predicted: str, correct: bool) -> None:
    verdict = GRADER.grade(prompt(gold, kind), f"Answer: {answer}")
    assert verdict == Verdict(correct, predicted, VerdictStatus.GRADED)


@pytest.mark.parametrize("gold", ["B", "(b)", "Blue"])
@pytest.mark.parametrize(
    ("answer", "predicted"),
    [("B", "B"), ("(B)", "B"), ("b.", "B"), ("blue", "B"), ("A", "A"), ("D", "d"), ("it is B", "it is b")],
)
def test_multiple_choice_takes_the_letter_or_the_text(gold: str, answer: str, predicted: str) -> None:
    question = prompt(gold, AnswerType.MULTI_CHOICE, ("red", "Blue", "green"))
    verdict = GRADER.grade(question, f"Answer: {answer}")
    assert verdict == Verdict(predicted == "B", predicted, VerdictStatus.GRADED)


def test_a_text_that_two_choices_share_names_neither() -> None:
    for gold in "AB":
        question = prompt(gold, AnswerType.MULTI_CHOICE, ("7", "7", "8"))
        assert not GRADER.grade(question, "Answer: 7").correct


@pytest.mark.parametrize(
    ("gold", "kind"),
    [(None, AnswerType.INTEGER), ("seven", AnswerType.INTEGER), ("", AnswerType.TEXT), ("E", AnswerType.MULTI_CHOICE)],
)
def test_an_unusable_gold_answer_is_told_and_the_prediction_kept(gold: str | None, kind: AnswerType) -> None:
    question = prompt(gold, kind, ("7", "8"))
    verdict = GRADER.grade(question, "Answer: 07" if kind is not AnswerType.MULTI_CHOICE else "Answer: 7")
    assert not verdict.correct
    assert verdict.status is VerdictStatus.UNGRADEABLE_GOLD
    expected = {AnswerType.INTEGER: "7", AnswerType.TEXT: "07", AnswerType.MULTI_CHOICE: "A"}
    assert verdict.predicted == expected[kind]
    assert GRADER.grade(question, "no marker").predicted is None


def test_unlabelled_floats_that_are_equal_vote_together() -> None:
    predicted = {
        GRADER.grade(prompt(None, AnswerType.FLOAT), f"Answer: {x}").predicted for x in ("2.50", "2.5", "02.5")
    }
    assert predicted == {"2.5"}
    assert GRADER.grade(prompt(None, AnswerType.FLOAT), "Answer: 100").predicted == "100"


@pytest.mark.parametrize("kind", [AnswerType.INTEGER, AnswerType.FLOAT])
def test_numbers_longer_than_python_parses_are_graded(kind: AnswerType) -> None:
    giant = "1" + "0" * 5000
    assert GRADER.grade(prompt(giant, kind), f"Answer: 0{giant}").correct
    assert not GRADER.grade(prompt("7", kind), f"Answer: {giant}").correct


@given(
    st.text(max_size=20),
    st.sampled_from(list(AnswerType)),
    st.sampled_from([None, "7", "1.50", "A", "red", "\u0663"]),
)
def test_nothing_that_a_policy_writes_raises(text: str, kind: AnswerType, gold: str | None) -> None:
    verdict = GRADER.grade(prompt(gold, kind, ("red", "7")), f"Answer: {text}")
    assert verdict.predicted != ""
    assert verdict.correct <= (verdict.status is VerdictStatus.GRADED)
