"""Greedy accuracy: one response a prompt, without sampling."""

from __future__ import annotations

from collections.abc import Sequence

from mstar.generation import Engine, Request, Sample, draw_responses
from mstar.grading import Grader
from mstar.interruption import stop_if_asked
from mstar.types import Prompt, Response, ScoredResponse

__all__ = ["GREEDY", "grade_response", "greedy_responses"]

GREEDY = Sample(index=0, temperature=0.0, seed=0)


def grade_response(prompt: Prompt, response: Response, grader: Grader) -> ScoredResponse:
    """Adds the verdict on the final answer and, where the data knows it, on the whole chain."""
    stop_if_asked()
    return ScoredResponse(
        response, grader.grade(prompt, response.text), chain_correct=prompt.chain_correct(response.text)
    )


def greedy_responses(engine: Engine, prompts: Sequence[Prompt], grader: Grader) -> list[ScoredResponse]:
    """The graded greedy response of every prompt."""
    responses = draw_responses(engine, [Request(prompt, (GREEDY,)) for prompt in prompts])
    return [grade_response(prompt, written[0], grader) for prompt, written in zip(prompts, responses, strict=True)]
