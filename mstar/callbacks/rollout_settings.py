"""The settings of self-evolving training, as the checks, the stages and the MPRM's refresh take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import mstar.judges  # noqa: F401  # the parser takes the short names of the classes that are loaded
from mstar.callbacks.refresh import RewardModelRefresh
from mstar.errors import ConfigError, require_least, require_share
from mstar.generation import Engine
from mstar.grading import Grader
from mstar.modules.policy_losses import Objective
from mstar.rewards import MPRM, Aggregation, Reward
from mstar.selection import Advantages, Balance, PolicyGradient, Selector, StepRewards, Voting, learns_from_all
from mstar.temperature import TemperatureController

Method = Literal["continuous", "iterative_rft", "rest_em", "rloop", "nft", "grpo", "reinforce_rej"]
Unlabelled = Literal["off", "voting", "oracle"]


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """What ``RolloutCallback`` was given; its docstring says what each of them does.

    Raises:
        ConfigError: a value cannot work, or two contradict each other.
    """

    num_samples: int
    interval: float
    selector: Selector | Advantages
    method: Method
    gradient: PolicyGradient
    controller: TemperatureController
    engine: Engine
    grader: Grader
    reward: Reward | None
    refresh: RewardModelRefresh | None
    answer_conditioned: bool
    unlabelled: Unlabelled
    unlabelled_start: float
    voting: Voting
    dynamics: bool
    shard_size: int
    overlap_shards: int
    keep_iterations: int | None
    seed: int
    reuse: str | None

    def __post_init__(self) -> None:
        counts = ("num_samples", "shard_size", "keep_iterations")
        require_least("rollout.", **{name: getattr(self, name) for name in counts})
        require_least("rollout.", 0, overlap_shards=self.overlap_shards)
        require_share("rollout.interval", self.interval, "(0, 1]")
        require_share("rollout.unlabelled_start", self.unlabelled_start)
        if self.overlap_shards and not self.engine.elsewhere:
            raise ConfigError(
                f"rollout.overlap_shards draws while the policy trains, but {type(self.engine).__name__} does not draw "
                "by servers that have the policy's weights: leave it out, or choose VllmServerEngine."
            )
        if self.overlap_shards and self.selector.balance.extra_samples:
            raise ConfigError(
                "rollout.balance.extra_samples follow from the verdicts on the first samples, which those of "
                "rollout.overlap_shards do not have in time: leave one of them out."
            )
        # An MPRM without a folder has to be made before the first iteration.
        waits = isinstance(self.reward, MPRM) and self.reward.folder is None
        made = self.refresh is not None and 1 in self.refresh.iterations
        if self.selector.needs_reward and (self.reward is None or (waits and not made)):
            what, others = (
                (f"step_rewards '{self.selector.step_rewards}' reads", "outcome")
                if isinstance(self.selector, Advantages)
                else (f"selection '{self.selector.name}' ranks by", "random, all, likelihood or oracle")
            )
            raise ConfigError(
                f"rollout.{what} a reward, but neither rollout.reward_model is set nor rollout.reward: give the folder "
                f"of an exported MPRM, or choose {others}."
            )
        if learns_from_all(self.method) and self.answer_conditioned:
            raise ConfigError(
                f"rollout.method '{self.method}' compares the policy with the one that drew a response, but "
                "rollout.answer_conditioned draws from another prompt than it trains on: switch one of them off."
            )
        if learns_from_all(self.method) and self.voting.weight is not None:
            raise ConfigError(
                f"rollout.voting.weight is for methods that imitate, and rollout.method '{self.method}' weighs samples "
                "itself: leave it out."
            )
        if self.controller.top_k_candidates and not (isinstance(self.selector, Selector) and self.selector.counts):
            raise ConfigError(
                "rollout.temperature.top_k_candidates are values of rollout.top_k, which this method or selection does "
                "not use: leave them out, or choose a selection that keeps so many (top_k, random, likelihood, mixed, "
                "oracle)."
            )
        if self.refresh is not None and self.reward is not None and not self.reward.refreshable:
            raise ConfigError(
                f"rollout.refresh_reward_model retrains an MPRM, but rollout.reward is {type(self.reward).__name__}, "
                "which has no model to be retrained: drop one of them."
            )

    def hide_progress(self) -> None:
        """Shows no bars of generation and scoring."""
        self.engine.progress = False
        if self.reward is not None:
            self.reward.progress = False

    @property
    def top_k(self) -> int:
        """How many responses of a prompt are kept at present, by rules that count them."""
        own = self.selector.top_k if isinstance(self.selector, Selector) else 0
        return self.controller.top_k or own

    def selector_at(self, iteration: int, last: int) -> Selector | Advantages:
        """The selector of one iteration: its threshold moves, and a sweep may have chosen its ``top_k``."""
        selector = self.selector
        return replace(selector.at(iteration, last), top_k=self.top_k) if isinstance(selector, Selector) else selector

    @property
    def objective(self) -> Objective | None:
        """How the policy learns from samples; None where it imitates what is kept."""
        if not isinstance(self.selector, Advantages):
            return None
        return Objective(self.selector.method, self.gradient)

    @property
    def weighs(self) -> bool:
        """Whether what is imitated may have other weights than 1."""
        voted = self.unlabelled == "voting" and self.voting.weight is not None
        return voted or self.selector.balance.repeat_hard is not None

    @property
    def ready_reward(self) -> Reward | None:
        """The reward, once it can score; an MPRM that is made within the run cannot before."""
        return self.reward if self.reward is not None and self.reward.ready else None


def choose_rule(
    method: Method, gradient: PolicyGradient | None, step_rewards: StepRewards, balance: Balance
) -> Advantages | None:
    """What gives the responses of a prompt their worth; None for a method that imitates what is selected.

    Raises:
        ConfigError: the method has no use for a setting.
    """
    if learns_from_all(method):
        gradient = gradient or PolicyGradient()
        gradient.check_used(method)
        return Advantages(method, gradient.normalise, step_rewards, balance)
    for option, given in (("policy_gradient", gradient is not None), ("step_rewards", step_rewards != "outcome")):
        if given:
            raise ConfigError(
                f"rollout.{option} is for methods that learn from every sample, but rollout.method is '{method}': "
                "leave it out, or choose nft, grpo or reinforce_rej."
            )
    return None


def choose_reward(reward: Reward | None, short: MPRM, aggregation: Aggregation, *, waits: bool) -> Reward | None:
    """The reward of a run, given as such or by ``rollout.reward_model``; None if there is none.

    Args:
        short: The MPRM that ``reward_model`` and the options beside it are short for; without a folder if that is not
            set.
        waits: Whether an MPRM is made within the run, so that it needs no folder.

    Raises:
        ConfigError: both were given.
    """
    if reward is None and (short.folder is not None or waits):
        reward = short
    elif short.folder is not None:
        raise ConfigError("rollout.reward_model is short for an MPRM as rollout.reward: set one of the two.")
    if reward is not None:
        reward.aggregation = aggregation
    return reward
