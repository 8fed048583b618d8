"""Grading the responses to a prompt."""

from __future__ import annotations

from mstar.grading import Grader, grade_responses
from mstar.types import Prompt, Response, Verdict, VerdictStatus


class Counting(Grader):
    """Takes whatever says 7 for right, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        self.asked.append(response)
        return Verdict("7" in response, response, VerdictStatus.GRADED)


def test_equal_responses_are_graded_once_and_each_keeps_what_else_it_is() -> None:
    prompt = Prompt(id="a", question="What is it?", answer="7", reference_responses=("7",))
    texts = ["7", "8", "7", "it is 7"]
    responses = [Response("a", i, text, i, True, 1.0, -float(i)) for i, text in enumerate(texts)]
    grader = Counting()
    scored = grade_responses(prompt, responses, grader)
    assert grader.asked == ["7", "8", "it is 7"]
    assert [s.response for s in scored] == responses
    assert [(s.verdict.correct, s.verdict.predicted) for s in scored] == [("7" in text, text) for text in texts]
    assert [s.chain_correct for s in scored] == [True, False, True, False]
