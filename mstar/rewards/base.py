"""The interface of every reward: how good a response is, by steps or as a whole."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import torch

from mstar.errors import ConfigError
from mstar.models.precision import DTYPES, Precision, resolve_dtype
from mstar.provenance import describe
from mstar.steps import split_steps
from mstar.storage import PromptResponses
from mstar.types import Prompt, Response, ScoredResponse

_log: Final = logging.getLogger(__name__)
Aggregation = Literal["min", "mean", "product", "last", "min_without_answer"]


def aggregate(step_scores: Sequence[float], aggregation: Aggregation = "min") -> float:
    """The reward of a response from the scores of its steps; 0 without steps.

    Args:
        step_scores: The scores, in order; the last step is the one with the answer.
        aggregation: ``min`` (M-STaR: R_p), ``mean``, ``product``, ``last`` (the answer's step alone), or
            ``min_without_answer`` (the minimum of the steps before the answer, where there are any).
    """
    if not step_scores:
        return 0.0
    match aggregation:
        case "min":
            return min(step_scores)
        case "mean":
            return sum(step_scores) / len(step_scores)
        case "product":
            return prod(step_scores)
        case "last":
            return step_scores[-1]
        case "min_without_answer":
            return min(step_scores[:-1], default=step_scores[-1])


@dataclass(frozen=True, slots=True)
class RewardHost:
    """Where a reward works, and what the policy beside it computes in and with."""

    device: torch.device | str = "cpu"
    precision: Precision = field(default_factory=Precision)
    attention: str | None = "auto"
    trust_remote_code: bool = False

    def precision_of(self, dtype: str) -> Precision:
        """What a reward with weights of a type computes in; ``auto`` has 16 bits on CUDA, else the policy's type."""
        if dtype == "auto" and not str(self.device).startswith("cuda"):
            return self.precision
        return self.precision.over(DTYPES[resolve_dtype(dtype, self.device)])


class Reward(ABC):
    """Scores responses to prompts. A reward of one's own needs ``score`` alone.

    Its constructor's arguments are its settings: the configuration fills them (``rollout.reward``), and its scores
    count as others where one of them changes, if it keeps them as attributes.

    Attributes:
        aggregation: What makes one number of a response's scores (``rollout.aggregation``).
        refreshable: Whether it can go on with a model that was retrained within the run.
    """

    aggregation: Aggregation = "min"
    progress: bool = False
    refreshable: ClassVar[bool] = False
    _told_longer = False

    def check(self) -> None:  # noqa: B027 - most have nothing that may be missing
        """Looks for what it needs, before anything is written.

        Raises:
            ConfigError: something is missing.
        """

    @property
    def ready(self) -> bool:
        """Whether it can score: not before it has a model, if it needs one."""
        return True

    def load(self, host: RewardHost) -> None:  # noqa: B027 - most have nothing to load
        """Readies it for scoring; called before every use, so that what is there already must stay."""

    def lacks(self, response: Response) -> str | None:
        """What a response lacks that it is scored by, beside its text, in a sentence; None if nothing.

        ``score`` of the command line leaves such a response out and says so: a number that stands for "unknown" would
        be compared with others.
        """
        return None

    @abstractmethod
    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """Scores responses.

        Returns:
            For every group and response its steps' scores, or one score of the whole. Larger is better; ``threshold``
            and weighted votes take them for probabilities.
        """

    def score_steps(self, groups: Sequence[tuple[Prompt, Sequence[Sequence[str]]]]) -> list[list[tuple[float, ...]]]:
        """Scores responses whose steps are given, each of one line or several, with some visible text.

        Here they are joined by line breaks, and a step's score is that of its last line, which has seen all of it.

        Returns:
            For every group and response one score a step.

        Raises:
            ConfigError: it scores responses as a whole.
        """
        texts = [(prompt, ["\n".join(step.strip() for step in steps) for steps in rows]) for prompt, rows in groups]
        scored = self.score(
            [
                (prompt, [Response(prompt.id, n, text, 0, True, 0.0, math.nan) for n, text in enumerate(rows)])
                for prompt, rows in texts
            ]
        )
        return [
            [self._of_steps(steps, scores) for steps, scores in zip(rows, found, strict=True)]
            for (_, rows), found in zip(groups, scored, strict=True)
        ]

    def _of_steps(self, steps: Sequence[str], scores: tuple[float, ...]) -> tuple[float, ...]:
        ends = list(accumulate(len(split_steps(step)) for step in steps))
        if ends[-1] != len(scores):
            raise ConfigError(
                f"{type(self).__name__} gives {len(scores)} scores to a response of {ends[-1]} lines, but every step's "
                "is needed: choose a reward that scores steps."
            )
        return tuple(scores[end - 1] for end in ends)

    def refresh(self, folder: Path | None) -> None:
        """Goes on with a model that was retrained within the run, from the next ``load`` on; None for the first.

        Raises:
            ConfigError: it has none.
        """
        raise ConfigError(f"{type(self).__name__} has no model that could be retrained: drop refresh_reward_model.")

    def release(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Lets go of its memory, until the next ``load``."""

    def tell_longer(self, longer: int, positions: int | None) -> None:
        """Warns once of so many responses that have more tokens, with their prompts, than its model has positions."""
        if longer and not self._told_longer:
            self._told_longer = True
            _log.warning(
                "%s: %d responses have, with their prompts, more tokens than the model's positions (%d), which it was "
                "not made for: their scores say little",
                type(self).__name__,
                longer,
                positions,
            )

    def facts(self) -> dict[str, Any]:
        """What its scores depend on beside the responses, as JSON values; asked for once it is loaded."""
        described: dict[str, Any] = describe(self)
        return described


def require_finite_scores(
    reward: Reward, prompts: Sequence[Prompt], scores: Sequence[Sequence[Sequence[float]]]
) -> None:
    """Refuses scores that are no numbers, whatever the reward: a comparison with one of them says nothing.

    Raises:
        ConfigError: one is not finite.
    """
    for prompt, rows in zip(prompts, scores, strict=True):
        if not all(math.isfinite(score) for row in rows for score in row):
            raise ConfigError(
                f"{type(reward).__name__}'s scores are not finite numbers (prompt '{prompt.id}' is the first of them), "
                "so nothing can be chosen by them: take another copy of its model, or train it again; if its weights "
                "are finite, score in float32 (its dtype, and trainer.precision 32-true)."
            )


def add_process_rewards(
    groups: Sequence[PromptResponses], reward: Reward, *, only_correct: bool = False
) -> list[PromptResponses]:
    """Scores responses; on demand only those that can be kept (right, and not cut off).

    Raises:
        ConfigError: a score is not a finite number, or the scores are not those of the responses.
    """

    def wanted(scored: ScoredResponse) -> bool:
        return not only_correct or (scored.verdict.correct and scored.response.finished)

    asked = [(g.prompt, [s.response for s in g.responses if wanted(s)]) for g in groups]
    given = reward.score(asked)
    try:
        rows = [[tuple(map(float, scores)) for scores in row] for row in given]
    except (TypeError, ValueError):
        rows = []
    if len(rows) != len(asked) or any(len(row) != len(rs) for row, (_, rs) in zip(rows, asked, strict=True)):
        # By their order alone scores belong to responses: with one too many they would be those of others.
        raise ConfigError(
            f"{type(reward).__name__}.score gives not one entry for every response to every prompt that it is asked "
            "about: have it return a list for each prompt, with a tuple of numbers for each response, in their order."
        )
    require_finite_scores(reward, [group.prompt for group in groups], rows)
    return [
        PromptResponses(group.prompt, tuple(_rated(group.responses, iter(steps), wanted, reward)))
        for group, steps in zip(groups, rows, strict=True)
    ]


def _rated(
    responses: Sequence[ScoredResponse],
    steps: Iterator[tuple[float, ...]],
    wanted: Callable[[ScoredResponse], bool],
    reward: Reward,
) -> Iterator[ScoredResponse]:
    for scored in responses:
        if wanted(scored):
            scores = next(steps)
            yield replace(scored, step_scores=scores, process_reward=aggregate(scores, reward.aggregation))
        else:
            yield scored
