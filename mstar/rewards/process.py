"""Scoring with a loaded MPRM: it reads image, question and response, and scores every step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TypeAlias

import torch
from tqdm.auto import tqdm

from mstar.errors import require_least
from mstar.interruption import stop_if_asked
from mstar.models.offload import on_device
from mstar.models.out_of_memory import within_memory
from mstar.models.response_scorer import ResponseScorer
from mstar.rendering import Renderer
from mstar.types import Prompt

# Some groups' numbers, each with responses.
_Batch: TypeAlias = list[tuple[int, list[str]]]


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
        distinct = [list(dict.fromkeys(text for text in texts if text.strip())) for _, texts in groups]
        found: list[dict[str, tuple[float, ...]]] = [{} for _ in groups]
        prompts = [prompt for prompt, _ in groups]
        was_training = self.scorer.training
        self.scorer.eval()
        bar = tqdm(total=sum(map(len, distinct)), desc="score", unit="response", disable=not self.progress, leave=False)
        try:
            with nullcontext() if self.device is None else on_device(self.scorer, self.device):
                for batch in self._batches(enumerate(distinct)):
                    for number, text, logits in self._score_batch(prompts, batch):
                        found[number][text] = tuple(map(_sigmoid, logits))
                        bar.update()
        finally:
            bar.close()
            self.scorer.train(was_training)
        return [[by_text.get(text, ()) for text in texts] for by_text, (_, texts) in zip(found, groups, strict=True)]

    def _score_batch(self, prompts: Sequence[Prompt], batch: _Batch) -> Iterator[tuple[int, str, tuple[float, ...]]]:
        """Scores a batch; one for which the memory is not enough is scored in halves, and so are those after it."""
        stop_if_asked()
        size = sum(len(texts) for _, texts in batch)
        if size <= self.batch_size:
            here, texts = [prompts[number] for number, _ in batch], [texts for _, texts in batch]
            scored = within_memory(lambda: self.scorer.score(self.renderer, here, texts), size, "MPRM: batch_size")
            if scored is not None:
                for (number, answers), rows in zip(batch, scored, strict=True):
                    for text, logits in zip(answers, rows, strict=True):
                        yield number, text, logits
                return
            self.batch_size = size // 2
        for part in self._batches(batch):
            yield from self._score_batch(prompts, part)

    def _batches(self, distinct: Iterable[tuple[int, list[str]]]) -> Iterator[_Batch]:
        """Fills batches with whole groups in order; a group with more responses than a batch holds is split."""
        batch: _Batch = []
        size = 0
        for number, texts in distinct:
            for start in range(0, len(texts), self.batch_size):
                part = texts[start : start + self.batch_size]
                if size + len(part) > self.batch_size:
                    yield batch
                    batch, size = [], 0
                batch.append((number, part))
                size += len(part)
        if batch:
            yield batch


def _sigmoid(logit: float) -> float:
    if math.isinf(logit):
        return math.nan  # no probability, and refused as such
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else 1 - 1 / (1 + math.exp(logit))
