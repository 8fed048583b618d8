"""Scoring of K = 16 responses a prompt with all their steps by the MPRM: ours, and one forward pass for every step.

Run ``python benchmarks/scoring.py``. Ours is ``MPRM.score``: prompt and picture once for all responses, all
the steps of a response in one pass. The other way reads prompt and response again up to the end of every step; it may
put 16 such rows into a batch.
"""

from __future__ import annotations

import logging
import random
import sys
import warnings
from typing import Final

import torch
from bench_model import build_model, build_processor, make_prompt, make_text
from harness import compare, report, single_thread

from mstar.models.step_scorer import StepScorer
from mstar.rendering import Renderer
from mstar.rewards import MPRM
from mstar.steps import split_steps
from mstar.types import Prompt

K: Final = 16
ROWS: Final = 16
# Prompt tokens, steps of a response (about 12 tokens each), prompts.
CASES: Final = ((100, 6, 2), (400, 6, 1))


def make_responses(number: int, steps: int) -> list[str]:
    """Responses of about so many steps."""
    draw = random.Random(number)
    return [
        "\n".join(
            make_text(number * 10_000 + k * 100 + step, draw.randint(6, 18))
            for step in range(draw.randint(steps - 2, steps + 2))
        )
        for k in range(K)
    ]


@torch.inference_mode()
def one_pass_a_step(
    scorer: StepScorer, renderer: Renderer, groups: list[tuple[Prompt, list[str]]]
) -> list[list[tuple[float, ...]]]:
    """The probability of every step, each read at the end of a row of its own."""
    rows = []
    for prompt, responses in groups:
        for response in responses:
            steps = split_steps(response)
            rows += [(prompt, "".join(steps[: end + 1])) for end in range(len(steps))]
    last: list[float] = []
    for start in range(0, len(rows), ROWS):
        prompts, texts = zip(*rows[start : start + ROWS], strict=True)
        steps = scorer(renderer.response_inputs(prompts, texts))
        for row in range(len(texts)):
            last.append(float(steps.logits_N[steps.row_N == row][-1].sigmoid()))
    scores = iter(last)
    return [[tuple(next(scores) for _ in split_steps(text)) for text in texts] for _, texts in groups]


def main() -> None:
    """Prints the ratios."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    single_thread()
    processor = build_processor()
    scorer = StepScorer(build_model(processor)).eval()
    renderer = Renderer(processor, [processor.tokenizer.eos_token_id])
    reward = MPRM.holding(scorer, renderer, batch_size=4 * K)
    for length, steps, num_prompts in CASES:
        groups = [(make_prompt(number, length), make_responses(number, steps)) for number in range(num_prompts)]
        num_steps = float(sum(len(split_steps(text)) for _, texts in groups for text in texts))

        def ours(groups: list[tuple[Prompt, list[str]]] = groups, num_steps: float = num_steps) -> float:
            reward.score_texts(groups)
            return num_steps

        def theirs(groups: list[tuple[Prompt, list[str]]] = groups, num_steps: float = num_steps) -> float:
            one_pass_a_step(scorer, renderer, groups)
            return num_steps

        name = f"MPRM scoring, {length} prompt tokens, K = {K}, {num_steps / K / len(groups):.1f} steps a response"
        report(compare(name, "steps/s", ours, theirs, target=4.0, rounds=3))


if __name__ == "__main__":
    sys.exit(main())
