"""Answering: one greedy response a prompt, graded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch import nn

from mstar.errors import ConfigError
from mstar.generation import Engine, Request
from mstar.generation.base import GREEDY
from mstar.grading import AnswerGrader
from mstar.modules import PolicyModule
from mstar.modules.answering import greedy_responses
from mstar.rendering import Renderer
from mstar.types import Prompt, Response


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
        return [
            [Response(r.prompt.id, 0, self.texts[r.prompt.id], 5, True, 0.0, -1.0) for _ in r.samples] for r in requests
        ]


def test_one_greedy_response_a_prompt() -> None:
    one, other = Prompt("p", "1 + 2?", answer="3"), Prompt("q", "2 + 2?", answer="4")
    engine = Scripted({"p": "1 + 2 = 3\nAnswer: 3\n", "q": "Answer: 5"})
    scored = greedy_responses(engine, [one, other], AnswerGrader())
    assert [request.samples for request in engine.requests] == [(GREEDY,), (GREEDY,)]
    assert GREEDY.temperature == 0
    assert [(s.response.prompt_id, s.verdict.correct) for s in scored] == [("p", True), ("q", False)]


class Endless(Scripted):
    """Does not say how long a response may be."""


def test_an_engine_without_a_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Scripted, "max_new_tokens")
    with pytest.raises(ConfigError, match=r"model\.engine 'Endless' has no max_new_tokens"):
        PolicyModule("mstar/tiny-idefics3", engine=Endless({}))
    with pytest.raises(ConfigError, match=r"rollout\.engine 'Endless' has no max_new_tokens"):
        PolicyModule("mstar/tiny-idefics3").use_engine(Endless({}), "rollout.engine")
