"""Stage 4, scored responses -> what the policy learns from (M-STaR: H, applied to the right answers of one prompt)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from mstar.errors import ConfigError
from mstar.metrics import rank_by_process_reward
from mstar.types import Fate, ScoredResponse

__all__ = ["SelectionRule", "Selector"]


class SelectionRule(StrEnum):
    """Which of a prompt's right responses are kept."""

    TOP_K = "top_k"
    THRESHOLD = "threshold"
    RANDOM = "random"
    ALL = "all"
    LIKELIHOOD = "likelihood"
    ORACLE = "oracle"


@dataclass(frozen=True)
class Selector:
    """Keeps some of the right responses of a prompt, and records why each of the others was not kept.

    Args:
        rule: ``top_k`` keeps the ``top_k`` with the highest process reward (M-STaR's best: 2), ``threshold`` those
            above ``threshold``, ``random`` any ``top_k``, ``all`` all, ``likelihood`` the ``top_k`` that the policy
            finds likeliest, and ``oracle`` ``top_k`` with whole chains right first (generated data only).
        top_k: How many responses of a prompt are kept at most; ``threshold`` and ``all`` do not use it.
        threshold: Process reward above which the rule ``threshold`` keeps a response, in [0, 1).
        deduplicate: Whether copies of a right response count once. Switch it off for a random choice that reproduces
            how often the policy writes each response.
        seed: Seed of the random choices.

    Raises:
        ConfigError: the rule is unknown, ``top_k`` is below 1, or ``threshold`` is outside [0, 1).
    """

    rule: SelectionRule = SelectionRule.TOP_K
    top_k: int = 2
    threshold: float = 0.5
    deduplicate: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "rule", SelectionRule(self.rule))
        except ValueError as error:
            raise ConfigError(f"selection is '{self.rule}', but must be one of {', '.join(SelectionRule)}.") from error
        if self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}, but at least 1 response a prompt must be kept; raise top_k.")
        if not 0 <= self.threshold < 1:
            raise ConfigError(
                f"threshold is {self.threshold}, but process rewards are probabilities; choose one in [0, 1)."
            )

    @property
    def needs_reward_model(self) -> bool:
        """Whether the rule reads process rewards."""
        return self.rule in (SelectionRule.TOP_K, SelectionRule.THRESHOLD)

    def select(self, scored: Sequence[ScoredResponse], *, stage: str) -> tuple[ScoredResponse, ...]:
        """Decides the fate of every response of one prompt.

        Args:
            scored: All the responses of one prompt.
            stage: What the choice is for, e.g. ``"rollout/3"``; a random choice depends on (seed, stage, prompt id,
                sample index) and on nothing else.

        Returns:
            The same responses in the same order, each with its ``fate``.

        Raises:
            ConfigError: the rule needs what the responses lack (process rewards, or whether the chain is right).
        """
        seen: set[str] = set()
        fates = [self._exclude(s, seen) for s in scored]
        eligible = [s for s, fate in zip(scored, fates, strict=True) if fate is None]
        kept = {id(s) for s in self._keep(eligible, stage)}
        return tuple(
            replace(s, fate=fate or (Fate.KEPT if id(s) in kept else Fate.NOT_SELECTED))
            for s, fate in zip(scored, fates, strict=True)
        )

    def _exclude(self, scored: ScoredResponse, seen: set[str]) -> Fate | None:
        """Why a response cannot be kept, or None if it can; ``seen`` collects the texts of those that can."""
        if not scored.response.finished:
            return Fate.TRUNCATED
        if scored.verdict.predicted is None:
            return Fate.NO_ANSWER
        if not scored.verdict.correct:
            return Fate.WRONG
        text = scored.response.text.strip()
        if self.deduplicate and text in seen:
            return Fate.DUPLICATE
        seen.add(text)
        return None

    def _keep(self, eligible: Sequence[ScoredResponse], stage: str) -> Sequence[ScoredResponse]:
        if self.needs_reward_model and any(s.process_reward is None for s in eligible):
            raise ConfigError(
                f"selection '{self.rule}' needs a reward model, but there are no process rewards; set one."
            )
        match self.rule:
            case SelectionRule.TOP_K:
                return rank_by_process_reward(eligible)[: self.top_k]
            case SelectionRule.THRESHOLD:
                return [s for s in eligible if s.process_reward is not None and s.process_reward > self.threshold]
            case SelectionRule.RANDOM:
                return self._shuffled(eligible, stage)[: self.top_k]
            case SelectionRule.ALL:
                return eligible
            case SelectionRule.LIKELIHOOD:
                return sorted(eligible, key=_likelihood_order)[: self.top_k]
            case SelectionRule.ORACLE:
                if any(s.chain_correct is None for s in eligible):
                    raise ConfigError("selection 'oracle' needs data with known right chains; choose another rule.")
                return sorted(self._shuffled(eligible, stage), key=lambda s: not s.chain_correct)[: self.top_k]
            case _:
                assert_never(self.rule)

    def _shuffled(self, eligible: Sequence[ScoredResponse], stage: str) -> list[ScoredResponse]:
        def key(s: ScoredResponse) -> bytes:
            parts = (self.seed, stage, s.response.prompt_id, s.response.sample_index)
            return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()

        return sorted(eligible, key=key)


def _likelihood_order(scored: ScoredResponse) -> tuple[float, int]:
    logprob = scored.response.logprob
    return (math.inf if math.isnan(logprob) else -logprob, scored.response.sample_index)
