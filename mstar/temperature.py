"""The sampling temperature of the rollouts: fixed, or adaptive (M-STaR: adaptive exploration)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from mstar.errors import ConfigError, require_least, require_positive

__all__ = ["AdaptiveTemperature", "Criterion", "FixedTemperature", "Pair", "TemperatureController"]

Criterion = Literal["reward_pass", "balance"]

# A temperature, and how many responses are kept of a prompt.
Pair = tuple[float, int]
_NONE: Final[Mapping[Pair, float]] = MappingProxyType({})


class TemperatureController(ABC):
    """Says at which temperature the next iteration samples, and when other temperatures must be tried first.

    By default none ever is, and the temperature stays.

    Attributes:
        k: How many responses with the highest reward a sweep's criterion looks at.
        criterion: What a sweep scores each candidate by: ``reward_pass`` (M-STaR: Reward-Pass@k) or ``balance``
            (B-STaR, see ``mstar.metrics.balance_at_k``).
        top_k_candidates: Values of ``rollout.top_k`` that a sweep chooses among, too; empty where it leaves that alone.
        top_k: How many responses are kept of a prompt from here on; None where no sweep has chosen that.
    """

    k: int = 2
    criterion: Criterion = "reward_pass"
    top_k_candidates: tuple[int, ...] = ()
    top_k: int | None = None

    @property
    def metric(self) -> str:
        """The criterion's name in reports, e.g. ``reward_pass@2``."""
        return f"{self.criterion}@{self.k}"

    def metric_of(self, top_k: int) -> str:
        """The same for a candidate of ``top_k``, e.g. ``balance@2_top_4``."""
        return f"{self.metric}_top_{top_k}"

    @property
    @abstractmethod
    def current(self) -> float:
        """The temperature of the next iteration."""

    @property
    def candidates(self) -> tuple[float, ...]:
        """The temperatures that a sweep tries, in ascending order."""
        return (self.current,)

    def due(self, iteration: int) -> bool:
        """Whether a sweep must run before this iteration; iterations are counted from 1."""
        return False

    def update(self, scores: Mapping[Pair, float], current: Pair, errors: Mapping[Pair, float] = _NONE) -> Pair:
        """Takes in the scores of a sweep.

        Args:
            scores: Each candidate's score, the higher the better; without ``top_k_candidates`` all have the same
                ``top_k``.
            errors: The standard error of each candidate's difference from the current one; empty where that is none.

        Returns:
            The new temperature and ``top_k``.
        """
        return current

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on from here; primitives only."""
        return {"temperature": self.current, "top_k": self.top_k}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - what is configured may stay
        """Goes on from a checkpoint's state; by default with what is configured, which is not for one that learns."""


class FixedTemperature(TemperatureController):
    """One temperature throughout.

    Args:
        value: The sampling temperature, above 0.

    Raises:
        ConfigError: ``value`` is not above 0.
    """

    def __init__(self, value: float = 1.0) -> None:
        require_positive("FixedTemperature: ", value=value)
        self.value = value

    @property
    def current(self) -> float:
        """The temperature."""
        return self.value


class AdaptiveTemperature(TemperatureController):
    """Every few iterations, moves to the temperature with the best criterion on the validation prompts.

    The defaults are M-STaR's: every 2 iterations, 0.3 to 1.6 by 0.1, Reward-Pass@2. The paper moves to the best,
    whatever its lead (``margin: 0``). A lead within its own standard error says nothing, so that it stays where it is.
    One beyond it says little: the best of many is a winner by chance, too, and its lead is biased upwards. Among 14
    equals it leads by more than one standard error in 60 % of the sweeps, and by more than 3 in 1 % (simulated).

    Args:
        initial: Temperature until the first sweep.
        minimum: Lowest temperature of a sweep.
        maximum: Highest temperature of a sweep, included if a whole number of steps reaches it.
        step: Distance between two temperatures of a sweep.
        every: Number of iterations between two sweeps; with 2 they run before the iterations 3, 5, 7 ...
        k: How many responses with the highest reward the criterion looks at; with top_k_candidates, how many right ones
            it aims at.
        criterion: reward_pass (M-STaR: is one of them right) or balance (B-STaR, arXiv 2412.17256: how many are).
        top_k_candidates: Has balance choose rollout.top_k among these, together with the temperature and from the same
            samples; rollout.top_k is that of the iterations before the first sweep. None leaves it as it is.
        margin: It stays where it is unless the best leads by more than so many standard errors of the difference.

    Raises:
        ConfigError: a temperature or ``step`` is not above 0, ``maximum`` is below ``minimum``, ``every``, ``k`` or a
            candidate is below 1, ``margin`` is below 0, or there are candidates and the criterion is not balance.
    """

    def __init__(
        self,
        initial: float = 1.0,
        minimum: float = 0.3,
        maximum: float = 1.6,
        step: float = 0.1,
        every: int = 2,
        k: int = 2,
        criterion: Criterion = "reward_pass",
        margin: float = 1.0,
        top_k_candidates: list[int] | None = None,
    ) -> None:
        require_positive("AdaptiveTemperature: ", initial=initial, minimum=minimum, maximum=maximum, step=step)
        if maximum < minimum:
            raise ConfigError(f"AdaptiveTemperature: maximum {maximum} is below minimum {minimum}; raise maximum.")
        candidates = tuple(sorted(set(top_k_candidates or ())))
        require_least("AdaptiveTemperature: ", every=every, k=k)
        require_least("AdaptiveTemperature: the least of ", top_k_candidates=min(candidates, default=None))
        require_least("AdaptiveTemperature: ", 0, margin=margin)
        if candidates and criterion != "balance":
            raise ConfigError(
                f"AdaptiveTemperature: balance chooses among top_k_candidates, but criterion is {criterion}, which "
                "more responses can only raise: set criterion to balance, or leave the candidates out."
            )
        self.initial = initial
        self.minimum = minimum
        self.maximum = maximum
        self.step = step
        self.every = every
        self.k = k
        self.criterion = criterion
        self.margin = margin
        self.top_k_candidates = candidates
        self._current = initial

    @property
    def current(self) -> float:
        """The winner of the last sweep; ``initial`` before the first."""
        return self._current

    @property
    def candidates(self) -> tuple[float, ...]:
        """The grid, free of rounding drift."""
        count = math.floor((self.maximum - self.minimum) / self.step + 1e-9) + 1
        return tuple(round(self.minimum + i * self.step, 10) for i in range(count))

    def due(self, iteration: int) -> bool:
        """Whether ``every`` iterations have passed since the start or the last sweep."""
        return iteration > 1 and (iteration - 1) % self.every == 0

    def update(self, scores: Mapping[Pair, float], current: Pair, errors: Mapping[Pair, float] = _NONE) -> Pair:
        """Moves to the best score; ties go to the temperature nearest to the current one, then to the lower.

        Of temperatures equally near, it goes to the nearest and lower ``top_k``.

        Args:
            scores: Each candidate's score; one that is not a number never wins.
            errors: The standard error of each candidate's difference from the current one. It stays where it is unless
                the best leads by more than ``margin`` of them.

        Raises:
            ValueError: there is no score that is a number.
        """
        known = {pair: score for pair, score in scores.items() if not math.isnan(score)}
        if not known:
            raise ValueError(f"AdaptiveTemperature: the sweep has no usable score: {dict(scores)}.")
        best = max(known.values())

        def order(pair: Pair) -> tuple[float, float, int, int]:
            (temperature, top_k), (here, kept) = pair, current
            return round(abs(temperature - here), 10), temperature, abs(top_k - kept), top_k

        chosen = min((pair for pair, score in known.items() if score == best), key=order)
        lead = best - known.get(current, -math.inf)
        if lead <= self.margin * errors.get(chosen, 0.0):
            chosen = current
        self._current = chosen[0]
        if self.top_k_candidates:
            self.top_k = chosen[1]
        return chosen

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on at the checkpoint's temperature, and with what it kept of a prompt."""
        # Earlier versions wrote no top_k where no sweep had chosen one.
        self._current, self.top_k = state["temperature"], state.get("top_k")
