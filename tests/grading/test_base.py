"""Grading the responses to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mstar.grading import AnswerGrader, Grader, grade_all, grade_response
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus


class Counting(Grader):
    """Takes whatever says 7 for right, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told: list[tuple[str, str]] = []

    def prepare(self, responses: Sequence[tuple[Prompt, str]]) -> None:
        assert not self.asked
        self.told += [(prompt.id, text) for prompt, text in responses]

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        self.asked.append(response)
        return Verdict("7" in response, response, VerdictStatus.GRADED)


def test_equal_responses_are_graded_once_and_each_keeps_what_else_it_is() -> None:
    prompt = Prompt(id="a", question="What is it?", answer="7", reference_responses=("7",))
    texts = ["7", "8", "7", "it is 7"]
    responses = [Response("a", i, text, i, True, 1.0, -float(i)) for i, text in enumerate(texts)]
    grader = Counting()
    [scored] = grade_all([prompt], [responses], grader)
    assert grader.asked == ["7", "8", "it is 7"]
    assert [s.response for s in scored] == responses
    assert [(s.verdict.correct, s.verdict.predicted) for s in scored] == [("7" in text, text) for text in texts]
    assert [s.chain_correct for s in scored] == [True, False, True, False]


def test_a_grader_is_told_of_all_responses_before_it_grades_one() -> None:
    prompts = [Prompt(id=name, question="What is it?", answer="7") for name in ("a", "b")]
    drawn = [[Response(name, i, text, i, True, 1.0, 0.0) for i, text in enumerate("78")] for name in ("a", "b")]
    grader = Counting()
    scored = grade_all(prompts, drawn, grader)
    assert grader.told == [("a", "7"), ("a", "8"), ("b", "7"), ("b", "8")]
    assert [[s.verdict.correct for s in row] for row in scored] == [[True, False]] * 2
    assert [[s.response for s in row] for row in scored] == drawn


def test_answer_and_chain_are_graded() -> None:
    prompt = Prompt("p", "1 + 2?", answer="3", reference_responses=("1 + 2 = 3\nAnswer: 3",))

    def grade(text: str, asked: Prompt = prompt) -> ScoredResponse:
        return grade_response(asked, Response("p", 0, text, 5, True, 0.0, -1.0), AnswerGrader())

    right, lucky, wrong = map(grade, ("1 + 2 = 3\nAnswer: 3\n", "1 + 2 = 5\nAnswer: 3", "Answer: 4"))
    assert [s.verdict.correct for s in (right, lucky, wrong)] == [True, True, False]
    assert [s.chain_correct for s in (right, lucky, wrong)] == [True, False, False]
    assert wrong.verdict.predicted == "4"
    assert grade("Answer: 3", replace(prompt, reference_responses=())).chain_correct is None
    assert grade("no idea").verdict.status is VerdictStatus.NO_ANSWER
