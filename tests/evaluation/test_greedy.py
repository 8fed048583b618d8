"""Greedy responses: one a prompt, graded by answer and chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from mstar.evaluation.greedy import GREEDY, find_cut_off, greedy_responses
from mstar.generation import Engine, Request
from mstar.grading import AnswerGrader, grade_response
from mstar.rendering import Renderer
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus

PROMPT = Prompt("p", "1 + 2?", answer="3", reference_responses=("1 + 2 = 3\nAnswer: 3",))
RIGHT, LUCKY, WRONG = "1 + 2 = 3\nAnswer: 3\n", "1 + 2 = 5\nAnswer: 3", "Answer: 4"


def response(text: str, prompt_id: str = "p") -> Response:
    return Response(prompt_id, 0, text, 5, True, 0.0, -1.0)


class Scripted(Engine):
    """Answers every prompt with the text that is written for it."""

    max_new_tokens = 8

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.requests: list[Request] = []

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        raise AssertionError("the caller starts engines")

    def update_weights(self, policy: nn.Module) -> None:
        raise AssertionError("the caller updates weights")

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        self.requests += requests
        return [[response(self.texts[r.prompt.id], r.prompt.id) for _ in r.samples] for r in requests]


def test_answer_and_chain_are_graded() -> None:
    right, lucky, wrong = (grade_response(PROMPT, response(text), AnswerGrader()) for text in (RIGHT, LUCKY, WRONG))
    assert [s.verdict.correct for s in (right, lucky, wrong)] == [True, True, False]
    assert [s.chain_correct for s in (right, lucky, wrong)] == [True, False, False]
    assert wrong.verdict.predicted == "4"
    unknown = grade_response(replace(PROMPT, reference_responses=()), response(RIGHT), AnswerGrader())
    assert unknown.chain_correct is None
    assert grade_response(PROMPT, response("no idea"), AnswerGrader()).verdict.status is VerdictStatus.NO_ANSWER


def test_one_greedy_response_a_prompt() -> None:
    other = Prompt("q", "2 + 2?", answer="4")
    engine = Scripted({"p": RIGHT, "q": WRONG})
    scored = greedy_responses(engine, [PROMPT, other], AnswerGrader())
    assert [request.samples for request in engine.requests] == [(GREEDY,), (GREEDY,)]
    assert GREEDY.temperature == 0
    assert [(s.response.prompt_id, s.verdict.correct) for s in scored] == [("p", True), ("q", True)]


def test_most_responses_cut_off_are_worth_a_word() -> None:
    whole, cut = (
        ScoredResponse(Response("p", 0, "Ans", 40, finished, 0.0, -1.0), Verdict(False, None, VerdictStatus.NO_ANSWER))
        for finished in (True, False)
    )
    assert find_cut_off([whole] + [cut] * 1199, 40, "model.engine.max_new_tokens") == (
        "1,199 of 1,200 responses were cut off at 40 tokens: raise model.engine.max_new_tokens"
    )
    assert find_cut_off([whole, cut], 40, "x") is None
    assert find_cut_off([], 40, "x") is None
