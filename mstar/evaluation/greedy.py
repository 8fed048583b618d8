"""Greedy accuracy: one response a prompt, without sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mstar.generation import Engine, Request, Sample
from mstar.grading import Grader
from mstar.types import Prompt, Response, ScoredResponse

__all__ = ["GREEDY", "GreedyScore", "grade_response", "greedy_responses"]

GREEDY = Sample(index=0, temperature=0.0, seed=0)


def grade_response(prompt: Prompt, response: Response, grader: Grader) -> ScoredResponse:
    """Adds the verdict on the final answer and, where the data knows it, on the whole chain."""
    return ScoredResponse(
        response, grader.grade(prompt, response.text), chain_correct=prompt.chain_correct(response.text)
    )


def greedy_responses(engine: Engine, prompts: Sequence[Prompt], grader: Grader) -> list[ScoredResponse]:
    """The graded greedy response of every prompt."""
    responses = engine.generate([Request(prompt, (GREEDY,)) for prompt in prompts])
    return [grade_response(prompt, written[0], grader) for prompt, written in zip(prompts, responses, strict=True)]


@dataclass(frozen=True, slots=True)
class GreedyScore:
    """Counts that add up over batches and processes.

    Attributes:
        prompts: Prompts answered.
        correct: Right final answers.
        chains: Responses that are right throughout; None where the data does not know it.
    """

    prompts: int = 0
    correct: int = 0
    chains: int | None = None

    @staticmethod
    def of(scored: Sequence[ScoredResponse]) -> GreedyScore:
        """Counts one batch."""
        chains = [s.chain_correct for s in scored if s.chain_correct is not None]
        return GreedyScore(len(scored), sum(s.verdict.correct for s in scored), sum(chains) if chains else None)

    def __add__(self, other: GreedyScore) -> GreedyScore:
        known = [c for c in (self.chains, other.chains) if c is not None]
        return GreedyScore(self.prompts + other.prompts, self.correct + other.correct, sum(known) if known else None)
