"""Grading the responses to a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from mstar.grading import Grader, grade_all
from mstar.types import Prompt, Response, Verdict, VerdictStatus


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
