"""Greedy accuracy: one response a prompt, without sampling."""

from __future__ import annotations

from collections.abc import Sequence

from mstar.generation import Engine, Request, Sample, draw_responses
from mstar.generation.base import explain_cut_off
from mstar.grading import Grader, grade_all
from mstar.types import Prompt, ScoredResponse

GREEDY = Sample(index=0, temperature=0.0, seed=0)


def greedy_responses(engine: Engine, prompts: Sequence[Prompt], grader: Grader) -> list[ScoredResponse]:
    """The graded greedy response of every prompt."""
    responses = draw_responses(engine, [Request(prompt, (GREEDY,)) for prompt in prompts])
    return [scored for [scored] in grade_all(prompts, responses, grader)]


def find_cut_off(scored: Sequence[ScoredResponse], max_new_tokens: int, option: str) -> str | None:
    """What to tell the user if most responses were cut off, which says little of what the policy knows; else None."""
    cut_off = sum(not item.response.finished for item in scored)
    return explain_cut_off(cut_off, len(scored), max_new_tokens, option)
