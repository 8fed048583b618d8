"""The process reward: an MPRM reads image, question and response, and scores every step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from mstar.errors import ConfigError
from mstar.interruption import stop_if_asked
from mstar.models.step_scorer import StepScorer
from mstar.rendering import Renderer
from mstar.types import Prompt

__all__ = ["ProcessReward", "process_reward"]


def process_reward(step_scores: Sequence[float]) -> float:
    """The reward of a response from the scores of its steps: their minimum (M-STaR: R_p); 0 without steps."""
    return min(step_scores, default=0.0)


class ProcessReward:
    """Scores the steps of responses with an MPRM.

    Args:
        scorer: The MPRM.
        renderer: Its renderer.
        batch_size: Most responses in one forward pass. Memory grows with it; scores do not depend on it beyond
            rounding.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: ``batch_size`` is below 1.
    """

    def __init__(self, scorer: StepScorer, renderer: Renderer, batch_size: int = 64, progress: bool = True) -> None:
        if batch_size < 1:
            raise ConfigError(f"ProcessReward: batch_size is {batch_size}, but it must be at least 1.")
        self.scorer = scorer
        self.renderer = renderer
        self.batch_size = batch_size
        self.progress = progress

    @classmethod
    def load(
        cls,
        folder: str | Path,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        *,
        dtype: str = "float32",
        attention: str | None = "auto",
        trust_remote_code: bool = False,
        progress: bool = True,
    ) -> ProcessReward:
        """Loads an exported MPRM.

        Args:
            folder: The MPRM's folder.
            device: Where it runs.
            batch_size: Most responses in one forward pass.
            dtype: Of the backbone.
            attention: As for ``load_model``.
            trust_remote_code: Whether Python code in the folder may run.
            progress: Whether to show a progress bar.

        Raises:
            ConfigError: the folder is missing or is not an MPRM.
        """
        scorer, renderer = StepScorer.load(
            folder, dtype=dtype, attention=attention, trust_remote_code=trust_remote_code
        )
        return cls(scorer.to(device), renderer, batch_size, progress)

    def score(self, groups: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[tuple[float, ...]]]:
        """Scores every step of every response; equal responses of one prompt are scored once.

        Args:
            groups: Prompts, each with its responses.

        Returns:
            For every group and response, the probability of each step to be right; ``()`` for a response without
            steps.
        """
        distinct = [list(dict.fromkeys(text for text in texts if text.strip())) for _, texts in groups]
        found: list[dict[str, tuple[float, ...]]] = [{} for _ in groups]
        was_training = self.scorer.training
        self.scorer.eval()
        bar = tqdm(total=sum(map(len, distinct)), desc="score", unit="response", disable=not self.progress, leave=False)
        try:
            for batch in self._batches(distinct):
                stop_if_asked()
                prompts = [groups[number][0] for number, _ in batch]
                scored = self.scorer.score(self.renderer, prompts, [texts for _, texts in batch])
                for (number, texts), rows in zip(batch, scored, strict=True):
                    for text, logits in zip(texts, rows, strict=True):
                        found[number][text] = tuple(map(_sigmoid, logits))
                    bar.update(len(texts))
        finally:
            bar.close()
            self.scorer.train(was_training)
        return [[by_text.get(text, ()) for text in texts] for by_text, (_, texts) in zip(found, groups, strict=True)]

    def _batches(self, distinct: list[list[str]]) -> Iterator[list[tuple[int, list[str]]]]:
        """Fills batches with whole groups in order; a group with more responses than a batch holds is split."""
        batch: list[tuple[int, list[str]]] = []
        size = 0
        for number, texts in enumerate(distinct):
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
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else 1 - 1 / (1 + math.exp(logit))
