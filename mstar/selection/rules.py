"""Stage 4, scored responses -> what the policy learns from (M-STaR: H, applied to the right answers of one prompt).

A rule is a subclass of ``SelectionRule``. Those here have short names; any other is named by its class path.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, pstdev
from typing import ClassVar, Final, Literal

from mstar.errors import ConfigError, require_least, require_share
from mstar.metrics import rank_by_process_reward
from mstar.selection.balance import Balance
from mstar.types import Fate, ScoredResponse

RuleName = Literal["top_k", "threshold", "consistency", "random", "all", "likelihood", "mixed", "oracle"]
Shuffled = Callable[[], list[ScoredResponse]]


class SelectionRule(ABC):
    """Which of a prompt's right responses are kept.

    A rule of one's own implements ``keep``; its constructor's arguments are its settings, which it keeps as attributes.

    Attributes:
        needs_reward: Whether it reads ``process_reward``, so that ``rollout`` must have a reward.
        needs_likelihood: Whether it reads ``response.logprob``, so that the engine must give log-probabilities.
        needs_chains: Whether it reads ``chain_correct``, so that the data must know the right chains.
    """

    needs_reward: ClassVar[bool] = False
    needs_likelihood: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = False

    @abstractmethod
    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep.

        Args:
            eligible: The right, whole responses to one prompt, without copies; there may be none.
            shuffled: Gives them in a random order, which depends on nothing but (seed, stage, prompt id, sample index).
        """


@dataclass(frozen=True)
class TopK(SelectionRule):
    """Keeps the ``top_k`` with the highest reward (M-STaR's best: 2)."""

    top_k: int = 2
    needs_reward: ClassVar[bool] = True

    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep."""
        return rank_by_process_reward(eligible)[: self.top_k]


@dataclass(frozen=True)
class Threshold(SelectionRule):
    """Keeps those with a reward above ``threshold``, a probability in [0, 1); the highest first."""

    threshold: float = 0.5
    needs_reward: ClassVar[bool] = True

    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep."""
        ranked = rank_by_process_reward(eligible)
        return [s for s in ranked if s.process_reward is not None and s.process_reward > self.threshold]


@dataclass(frozen=True)
class Consistency(SelectionRule):
    """Keeps the half with the higher reward (rounded up): where the process agrees with the outcome.

    After PROF (arXiv 2509.03403), which filters right and wrong responses so; it takes the mean as
    ``rollout.aggregation``.
    """

    needs_reward: ClassVar[bool] = True

    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep."""
        return rank_by_process_reward(eligible)[: (len(eligible) + 1) // 2]


@dataclass(frozen=True)
class Random(SelectionRule):
    """Keeps any ``top_k``."""

    top_k: int = 2

    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep."""
        return shuffled()[: self.top_k]


@dataclass(frozen=True)
class All(SelectionRule):
    """Keeps all."""

    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep."""
        return eligible


@dataclass(frozen=True)
class Likelihood(SelectionRule):
    """Keeps the ``top_k`` that the policy finds likeliest."""

    top_k: int = 2
    needs_likelihood: ClassVar[bool] = True

    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep."""
        return sorted(eligible, key=lambda s: (-s.response.logprob, s.response.sample_index))[: self.top_k]


@dataclass(frozen=True)
class Mixed(SelectionRule):
    """Keeps the ``top_k`` with the highest mixture of reward and likelihood.

    The two are on scales of their own, so that each is taken in standard deviations from its mean among the prompt's
    responses.

    Raises:
        ConfigError: ``weight`` is not in [0, 1].
    """

    top_k: int = 2
    weight: float = 0.5
    needs_reward: ClassVar[bool] = True
    needs_likelihood: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_share("selection Mixed: weight", self.weight)

    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep."""
        rewards = _standardise([s.process_reward or 0.0 for s in eligible])
        logprobs = _standardise([s.response.logprob for s in eligible])
        mixed = [self.weight * r + (1 - self.weight) * p for r, p in zip(rewards, logprobs, strict=True)]
        ranked = sorted(zip(mixed, eligible, strict=True), key=lambda pair: (-pair[0], pair[1].response.sample_index))
        return [s for _, s in ranked[: self.top_k]]


@dataclass(frozen=True)
class Oracle(SelectionRule):
    """Keeps ``top_k``, those with whole chains right first (generated data only)."""

    top_k: int = 2
    needs_chains: ClassVar[bool] = True

    def keep(self, eligible: Sequence[ScoredResponse], shuffled: Shuffled) -> Sequence[ScoredResponse]:
        """Those to keep."""
        return sorted(shuffled(), key=lambda s: not s.chain_correct)[: self.top_k]


# The rules with short names, made of the settings ``top_k`` and ``threshold``.
RULES: Final[dict[str, Callable[[int, float], SelectionRule]]] = {
    "top_k": lambda top_k, _: TopK(top_k),
    "threshold": lambda _, threshold: Threshold(threshold),
    "consistency": lambda *_: Consistency(),
    "random": lambda top_k, _: Random(top_k),
    "all": lambda *_: All(),
    "likelihood": lambda top_k, _: Likelihood(top_k),
    "mixed": lambda top_k, _: Mixed(top_k),
    "oracle": lambda top_k, _: Oracle(top_k),
}


# Those of which ``top_k`` says how many responses of a prompt are kept at most.
COUNTING: Final = ("top_k", "random", "likelihood", "mixed", "oracle")


@dataclass(frozen=True)
class Selector:
    """Keeps some of the right responses of a prompt, and records why each of the others was not kept.

    Args:
        rule: Which are kept: a rule, or the short name of one.
        top_k: How many responses of a prompt the rules with short names keep at most; ``threshold``, ``consistency``
            and ``all`` do not use it.
        threshold: Process reward above which the rule ``threshold`` keeps a response, in [0, 1).
        deduplicate: Whether copies of a right response count once. Switch it off for a random choice that reproduces
            how often the policy writes each response.
        seed: Seed of the random choices.
        final_threshold: The threshold of the last iteration, to which it moves evenly (``at``); None keeps it.
        balance: How many are kept of easy prompts.

    Raises:
        ConfigError: the rule is unknown, ``top_k`` is below 1, a threshold is outside [0, 1), or it moves and the rule
            is not ``threshold``.
    """

    rule: SelectionRule | str = "top_k"
    top_k: int = 2
    threshold: float = 0.5
    deduplicate: bool = True
    seed: int = 0
    final_threshold: float | None = None
    balance: Balance = field(default_factory=Balance)
    # None of the wrong ones is kept, whatever it scores.
    scores_wrong: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.rule, str) and self.rule not in RULES:
            raise ConfigError(f"selection is '{self.rule}', but must be one of {', '.join(RULES)}, or a class path.")
        require_least("rollout.", top_k=self.top_k)
        require_share("rollout.threshold", self.threshold, "[0, 1)")
        require_share("rollout.final_threshold", self.final_threshold, "[0, 1)")
        if self.final_threshold is not None and self.rule != "threshold":
            raise ConfigError(
                f"final_threshold is set, but selection '{self.name}' has no threshold that could move to it; choose "
                "selection 'threshold', or leave final_threshold out."
            )

    def at(self, iteration: int, last: int) -> Selector:
        """The selector of one iteration, whose threshold is on its way to the final one.

        Loose early and strict late: flawed right responses are what a weak policy has to learn from, and are worth
        sorting out once good ones abound (after FAPO, arXiv 2510.22543, which finds so of a penalty for them).
        """
        if self.final_threshold is None:
            return self
        way = min((iteration - 1) / (last - 1), 1.0) if last > 1 else 1.0
        threshold = self.threshold + way * (self.final_threshold - self.threshold)
        return replace(self, threshold=threshold, final_threshold=None)

    @property
    def chosen(self) -> SelectionRule:
        """The rule itself."""
        return RULES[self.rule](self.top_k, self.threshold) if isinstance(self.rule, str) else self.rule

    @property
    def name(self) -> str:
        """What the rule is called: its short name, or that of its class."""
        return self.rule if isinstance(self.rule, str) else type(self.rule).__name__

    @property
    def counts(self) -> bool:
        """Whether ``top_k`` says how many are kept."""
        return self.rule in COUNTING

    @property
    def needs_reward(self) -> bool:
        """Whether the rule reads process rewards."""
        return self.chosen.needs_reward

    def select(self, scored: Sequence[ScoredResponse], *, stage: str) -> tuple[ScoredResponse, ...]:
        """Decides the fate of every response of one prompt.

        Args:
            stage: What the choice is for, e.g. ``"rollout/3"``; a random choice depends on (seed, stage, prompt id,
                sample index) and on nothing else.

        Returns:
            The same responses in the same order, each with its ``fate``.

        Raises:
            ConfigError: the rule needs what the responses lack (process rewards, log-probabilities, or whether the
                chain is right), or keeps what is not one of them.
        """
        seen: set[str] = set()
        fates = [self._exclude(s, seen) for s in scored]
        eligible = [s for s, fate in zip(scored, fates, strict=True) if fate is None]
        chosen: object = self._keep(eligible, stage)
        kept = {id(s) for s in list(chosen)[: self.balance.limit(scored)]} if isinstance(chosen, Iterable) else None
        if kept is None or not kept <= {id(s) for s in eligible}:
            raise ConfigError(
                f"selection '{self.name}' keeps what is not among the responses that it is given: have keep return "
                "a list of some of them, and neither copies nor their numbers."
            )
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
        rule = self.chosen
        if rule.needs_reward and any(s.process_reward is None for s in eligible):
            raise ConfigError(f"selection '{self.name}' needs a reward, but the responses have none; set one.")
        if rule.needs_likelihood and any(math.isnan(s.response.logprob) for s in eligible):
            raise ConfigError(
                f"selection '{self.name}' ranks by likelihood, but responses to the prompt "
                f"'{eligible[0].response.prompt_id}' have no log-probabilities: choose another selection, or an engine "
                "that gives them."
            )

        if rule.needs_chains and any(s.chain_correct is None for s in eligible):
            raise ConfigError(f"selection '{self.name}' needs data with known right chains; choose another rule.")

        def order(s: ScoredResponse) -> bytes:
            parts = (self.seed, stage, s.response.prompt_id, s.response.sample_index)
            return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()

        return rule.keep(eligible, lambda: sorted(eligible, key=order))


def _standardise(values: Sequence[float]) -> list[float]:
    """The values in standard deviations from their mean."""
    mean, deviation = (fmean(values), pstdev(values)) if values else (0.0, 0.0)
    return [(value - mean) / (deviation or 1.0) for value in values]
