"""Votes of responses to prompts with a gold answer, which must not help them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mstar import metrics
from mstar.evaluation.votes import _tell_no_vote, grade_voters
from mstar.grading import AnswerGrader
from mstar.types import AnswerType, Prompt, Response, Tolerance, Verdict


def ask(answer: str, kind: AnswerType, said: list[str], **fields: object) -> tuple[str | None, float, list[bool]]:
    """The majority's answer, whether it is right, and the verdicts."""
    prompt = Prompt("p", "?", answer=answer, answer_type=kind, **fields)  # type: ignore[arg-type]
    drawn = [Response("p", place, f"Answer: {one}", 3, True, 1.0, -1.0) for place, one in enumerate(said)]
    [voters] = grade_voters([prompt], [drawn], AnswerGrader())
    return metrics.majority_answer(voters), metrics.majority([voters]), [one.verdict.correct for one in voters]


@pytest.mark.parametrize(
    ("answer", "kind", "said", "fields", "winner"),
    [
        ("100", AnswerType.FLOAT, ["80", "80", "96", "98", "103"], {"tolerance": Tolerance(relative=0.05)}, "80"),
        ("[0, 0, 9, 9]", AnswerType.BOX,
         ["[0, 0, 9, 8]", "[5, 5, 9, 9]", "[5, 5, 9, 9]", "[0, 0, 8, 9]", "[0, 0, 9, 9]"], {}, "[5, 5, 9, 9]"),
        ("parking", AnswerType.ANLS, ["no entry", "no entry", "parking", "parkin", "barking"], {}, "no entry"),
        ("red", AnswerType.TEXT, ["blue", "blue", "red", "crimson", "scarlet"],
         {"answers": ("crimson", "scarlet")}, "blue"),
    ],
)  # fmt: skip
def test_right_answers_that_differ_are_no_one_vote(
    answer: str, kind: AnswerType, said: list[str], fields: dict[str, object], winner: str
) -> None:
    voted, right, verdicts = ask(answer, kind, said, **fields)
    assert sum(verdicts) == 3
    assert (voted, right) == (winner, 0.0)


@pytest.mark.parametrize(
    ("answer", "kind", "said", "fields"),
    [
        ("B", AnswerType.MULTI_CHOICE, ["A", "A", "(B)", "B. 7", "7"], {"choices": ("5", "7", "9")}),
        ("7", AnswerType.INTEGER, ["5", "5", "7", "7.0", "seven"], {}),
        ("0.5", AnswerType.FLOAT, ["0.7", "0.70", "0.5", ".5", "1/2"], {"precision": 1}),
        # What the gold answer alone tells to be several options, or one.
        ("A, C", AnswerType.MULTI_CHOICE, ["A", "A", "A, C", "CA", "A and C"], {"choices": ("5", "7", "9")}),
        ("AC", AnswerType.MULTI_CHOICE, ["B", "B", "A, C", "AC", "C and A"], {}),
        ("B", AnswerType.TEXT, ["A", "A", "(B) cat", "cat", "B"], {"choices": ("dog", "cat")}),
    ],
)
def test_options_and_numbers_are_one_answer_in_every_spelling(
    answer: str, kind: AnswerType, said: list[str], fields: dict[str, object]
) -> None:
    assert ask(answer, kind, said, **fields)[1:] == (1.0, [False, False, True, True, True])


def test_the_winner_is_as_right_as_its_earliest_response_and_no_answer_is_no_vote() -> None:
    # Read without the gold answer, a statement is no answer; read with it, it may be.
    voted, right, verdicts = ask("red", AnswerType.TEXT, ["it is red", "it is red", "Red"])
    assert (voted, right, verdicts) == ("red", 1.0, [True, True, True])


class Open(AnswerGrader):
    """Reads nothing where the gold answer is hidden."""

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        """Without one, nothing."""
        hidden: dict[str, Any] = {} if prompt.golds else {"predicted": None}
        return replace(super().grade(prompt, response), **hidden)


def test_a_grader_of_which_nothing_is_a_vote_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    prompt = Prompt("p", "?", answer="7", answer_type=AnswerType.INTEGER)
    drawn = [Response("p", place, f"Answer: {place}", 3, True, 1.0, -1.0) for place in range(8)]
    _tell_no_vote.cache_clear()
    for grader in (AnswerGrader(), Open(), Open()):
        grade_voters([prompt], [drawn], grader)
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == ["Open reads an answer"]
