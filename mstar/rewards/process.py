"""Scoring with a loaded MPRM: it reads image, question and response, and scores every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import TypeAlias

import torch
from tqdm.auto import tqdm

from mstar.errors import require_least
from mstar.interruption import stop_if_asked
from mstar.models.ahead import Ahead
from mstar.models.offload import on_device
from mstar.models.out_of_memory import within_memory
from mstar.models.response_scorer import ResponseScorer, SharedInputs
from mstar.rendering import Renderer
from mstar.types import Prompt

# The number of a group, and a response of it.
_Asked: TypeAlias = tuple[int, str]


class ProcessReward:
    """Scores the steps of responses with an MPRM.

    Args:
        scorer: The MPRM, of either kind.
        batch_size: Most responses in one forward pass. Memory grows with it; scores do not depend on it beyond
            rounding. Where the memory is not enough, it is halved, for all that follows too.
        progress: Whether to show a progress bar.
        device: Where it computes, if that is not where its weights are: they are brought there for every call of
            ``score``, and let go of after it.

    Raises:
        ConfigError: ``batch_size`` is below 1.
    """

    def __init__(
        self,
        scorer: ResponseScorer,
        renderer: Renderer,
        batch_size: int = 64,
        progress: bool = True,
        device: torch.device | None = None,
    ) -> None:
        require_least("ProcessReward: ", batch_size=batch_size)
        self.scorer = scorer
        self.renderer = renderer
        self.batch_size = batch_size
        self.progress = progress
        self.device = device

    def score(self, groups: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[tuple[float, ...]]]:
        """Scores every step of every response; equal responses of one prompt are scored once.

        Returns:
            For every group and response, the probability of each step to be right; ``()`` for a response without
            steps.
        """
        prompts = [prompt for prompt, _ in groups]
        texts = [(number, text) for number, (_, row) in enumerate(groups) for text in row if text.strip()]
        distinct = list(dict.fromkeys(texts))
        found: dict[_Asked, tuple[float, ...]] = {}
        was_training = self.scorer.training
        self.scorer.eval()
        bar = tqdm(total=len(distinct), desc="score", unit="response", disable=not self.progress, leave=False)
        device = self.device or next(self.scorer.parameters()).device
        preparing = Ahead(partial(self._render, prompts), threaded=_computes_apart(device))
        try:
            with bar, nullcontext() if self.device is None else on_device(self.scorer, self.device), preparing as ahead:
                while len(found) < len(distinct):
                    stop_if_asked()
                    batch = self._next_batch(distinct, len(found))
                    later = self._next_batch(distinct, len(found) + len(batch))
                    score = partial(self.scorer.score_inputs, ahead.take(batch, later or None))
                    scored = within_memory(score, len(batch), "MPRM: batch_size")
                    if scored is None:
                        self.batch_size = len(batch) // 2
                        continue
                    found.update(zip(batch, (tuple(map(_sigmoid, row)) for row in scored), strict=True))
                    bar.update(len(batch))
        finally:
            self.scorer.train(was_training)
        return [[found.get((number, text), ()) for text in row] for number, (_, row) in enumerate(groups)]

    def _next_batch(self, distinct: Sequence[_Asked], begin: int) -> Sequence[_Asked]:
        """Whole groups in order, for each of which the prompt is read once; one that no batch holds is split."""
        end = begin + self.batch_size
        if end < len(distinct):
            first = next(place for place in range(begin, end + 1) if distinct[place][0] == distinct[end][0])
            end = first if first > begin else end
        return distinct[begin:end]

    def _render(self, prompts: Sequence[Prompt], batch: Sequence[_Asked]) -> SharedInputs:
        texts: dict[int, list[str]] = {}
        for number, text in batch:
            texts.setdefault(number, []).append(text)
        return self.scorer.render(self.renderer, [prompts[number] for number in texts], list(texts.values()))


def _computes_apart(device: torch.device) -> bool:
    """Whether a device computes while the processor does something else."""
    return device.type != "cpu"


def _sigmoid(logit: float) -> float:
    if math.isinf(logit):
        return math.nan  # no probability, and refused as such
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else 1 - 1 / (1 + math.exp(logit))
