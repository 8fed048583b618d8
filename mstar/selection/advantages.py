"""Stage 4 for methods that learn from every sample: what each response of a prompt is worth beside the others.

A prompt's group is its responses that ended. Those cut off are neither trained on, as with DAPO's overlong filtering
(arXiv 2503.14476), nor counted, since nobody knows what they would have answered (verl and TRL count them as wrong);
nor are those whose grading ran out of time. A response without an answer is wrong.
Below, r is 1 for a right response and 0 for a wrong one, p the mean of r over the group, and A the advantage.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Final, Literal, TypeGuard, get_args

from mstar.errors import ConfigError, require_least, require_positive, require_share
from mstar.selection.balance import Balance
from mstar.types import Fate, ScoredResponse, VerdictStatus

SampleMethod = Literal["nft", "grpo", "reinforce_rej"]
StepRewards = Literal["outcome", "drop", "decoupled", "consistency"]

# PAPO's: a deviation of process rewards that is no difference.
_ROUNDING: Final = 1e-6
# PS-GRPO's: how much of a step's score the next one may lose, and what a right answer that lost more is worth.
_DROP: Final = 0.3
_DROPPED: Final = 0.5
# Settings that a method has no use for, and step rewards that it cannot be given.
_UNUSED: Final = {
    "nft": ("clip_low", "clip_high", "level"),
    "grpo": ("negative_floor",),
    "reinforce_rej": ("normalise", "negative_floor"),
}
_UNFIT: Final = {"nft": ("drop", "decoupled"), "grpo": (), "reinforce_rej": ("decoupled",)}


def learns_from_all(method: str) -> TypeGuard[SampleMethod]:
    """Whether a method learns from all samples and not only from those that are kept to be imitated."""
    return method in get_args(SampleMethod)


@dataclass(frozen=True)
class PolicyGradient:
    """How nft, grpo and reinforce_rej learn from the samples of an iteration (``mstar.modules.policy_losses``).

    A setting that the method has no use for is refused, unless it has its default. Probabilities are those at
    temperature 1: with another ``rollout.temperature`` samples are not quite the policy's own, which biases gradients.

    Args:
        clip_low: How far below 1 the ratio of a token's present probability to that when it was sampled still has a
            gradient where the advantage is below 0 (grpo, reinforce_rej).
        clip_high: How far above 1 it still has one where the advantage is above 0 (DAPO: 0.28, "clip-higher").
        level: What has a ratio: each token, or the response as a whole (sequence: GSPO, arXiv 2507.18071, the geometric
            mean of its tokens' ratios; its authors clip at 3e-4 and 4e-4). With sequence every response counts the
            same in the loss, with token every token does.
        passes: How often an iteration's samples are gone through, in the same order. A step holds one pass at
            most, unless there are fewer samples than batches in it (accumulated ones, of all processes).
        normalise: Whether advantages are divided by the standard deviation of their group (grpo, nft); without, it is
            Dr. GRPO's advantage (arXiv 2503.20783).
        kl_weight: Weight of the divergence from the policy that drew the samples, whose log-probabilities are there. It
            holds an iteration together. The first weights of the run, which other frameworks take, would have to be in
            memory a second time.
        negative_floor: The least that nft takes for the ratio of the implicit negative policy (its epsilon).

    Raises:
        ConfigError: a number is out of its range.
    """

    clip_low: float = 0.2
    clip_high: float = 0.28
    level: Literal["token", "sequence"] = "token"
    passes: int = 1
    normalise: bool = True
    kl_weight: float = 0.0
    negative_floor: float = 1.0

    def __post_init__(self) -> None:
        require_share("rollout.policy_gradient.clip_low", self.clip_low, "(0, 1]")
        require_positive("rollout.policy_gradient.", clip_high=self.clip_high)
        require_least("rollout.policy_gradient.", passes=self.passes)
        require_least("rollout.policy_gradient.", 0, kl_weight=self.kl_weight)
        require_share("rollout.policy_gradient.negative_floor", self.negative_floor, "(0, 1]")

    def check_used(self, method: SampleMethod) -> None:
        """Makes sure that no setting was changed that a method has no use for (else ``ConfigError``)."""
        changed = [f.name for f in fields(self) if f.name in _UNUSED[method] and getattr(self, f.name) != f.default]
        if changed:
            raise ConfigError(
                f"rollout.policy_gradient.{changed[0]} has no effect with rollout.method '{method}': leave it out."
            )


@dataclass(frozen=True)
class Advantages:
    """Gives every response of a prompt its advantage; it stands where a ``Selector`` does for methods that imitate.

    - grpo (DeepSeekMath, arXiv 2402.03300): A = (r - mean) / standard deviation, over the group.
    - nft (arXiv 2505.18116): the same A with r alone, and the weight that makes its gradient that of grpo on policy,
      the square root of (1 - p) / p, or 1 - p where advantages are not normalised (so in the authors' runs).
    - reinforce_rej (arXiv 2504.11343): A = 1 for right and -1 for wrong responses of prompts that have both.

    A response whose advantage is 0 has no gradient and is no example: all of a group with equal rewards.

    Args:
        normalise: See ``PolicyGradient``.
        step_rewards: What the reward's scores of steps do. outcome: nothing. drop (PS-GRPO, arXiv 2501.04686): r is 0.5
            for a right response one of whose steps scores over 30 % less than the one before. decoupled (PAPO, arXiv
            2603.26535): to A is added the process reward of right responses, normalised over these; nothing where it
            is the same up to rounding, so that rounding is not learned from (their code: a deviation of 1e-6 at most,
            which is added to every other one). PAPO's process rewards are a model's marks of 0, 0.5 and 1, often equal;
            an MPRM's are so hardly ever, and a small difference counts as much as a large one. consistency (PROF,
            arXiv 2509.03403): half of the group stays (rounded up), right and wrong responses as even in number as can
            be, of the right ones those with the higher process reward, of the wrong ones those with the lower. (PROF's
            own code leaves those of one step or of over 30 out first.) PROF takes the mean as ``rollout.aggregation``.
        balance: Which prompts get further samples; nothing else of it is for these methods.

    Raises:
        ConfigError: the method cannot be given these step rewards, or this balance.
    """

    method: SampleMethod
    normalise: bool = True
    step_rewards: StepRewards = "outcome"
    balance: Balance = field(default_factory=Balance)

    def __post_init__(self) -> None:
        if self.step_rewards in _UNFIT[self.method]:
            raise ConfigError(
                f"rollout.step_rewards '{self.step_rewards}' does not go with rollout.method '{self.method}', which "
                "knows right and wrong alone: choose grpo, or outcome or consistency."
            )
        if self.balance.drop != "none" or self.balance.keep_easy is not None or self.balance.repeat_hard is not None:
            raise ConfigError(
                "rollout.balance.drop, keep_easy and repeat_hard are for methods that imitate, and rollout.method "
                f"'{self.method}' learns nothing of prompts that are all right anyway: leave them out."
            )

    @property
    def needs_reward(self) -> bool:
        """Whether it reads step scores or process rewards."""
        return self.step_rewards != "outcome"

    @property
    def scores_wrong(self) -> bool:
        """Whether wrong responses are scored too."""
        return self.step_rewards == "consistency"

    def select(self, scored: Sequence[ScoredResponse], *, stage: str) -> tuple[ScoredResponse, ...]:
        """Gives the responses of one prompt their advantages and fates.

        Args:
            stage: What it is for; nothing here is random.

        Returns:
            The same responses in the same order.
        """
        ended = [s for s in scored if s.response.finished and s.verdict.status != VerdictStatus.TIMEOUT]
        group = _consistent(ended) if self.step_rewards == "consistency" else ended
        worth = {id(s): value for s, value in zip(group, self._advantages(group), strict=True)}
        weight = self._weight(group)

        def judge(s: ScoredResponse) -> ScoredResponse:
            if not s.response.finished:
                return replace(s, fate=Fate.TRUNCATED)
            if id(s) not in worth:
                return replace(s, fate=Fate.NOT_SELECTED)
            if worth[id(s)] == 0:
                return replace(s, fate=Fate.NO_GRADIENT)
            return replace(s, fate=Fate.KEPT, weight=weight, advantage=worth[id(s)])

        return tuple(judge(s) for s in scored)

    def _advantages(self, group: Sequence[ScoredResponse]) -> list[float]:
        drops = self.step_rewards == "drop"
        rewards = [float(s.verdict.correct) * (_DROPPED if drops and _drops(s.step_scores) else 1.0) for s in group]
        if self.method == "reinforce_rej":
            mixed = len({s.verdict.correct for s in group}) > 1
            return [2 * reward - 1 if mixed else 0.0 for reward in rewards]
        outcome = self._centred(rewards)
        if self.step_rewards != "decoupled":
            return outcome
        scores = [s.process_reward or 0.0 for s in group if s.verdict.correct]
        process = iter(self._centred(scores, least=_ROUNDING))
        return [a + (next(process) if s.verdict.correct else 0.0) for a, s in zip(outcome, group, strict=True)]

    def _centred(self, values: Sequence[float], least: float = 0.0) -> list[float]:
        """The values less their mean, by their standard deviation (of the group itself, not estimated from it).

        Args:
            least: A deviation that means nothing; what is above is larger by it.
        """
        # Asked first, because rounding may leave a little of a mean of equal numbers.
        if len(set(values)) < 2:
            return [0.0] * len(values)
        mean = statistics.fmean(values)
        deviation = statistics.pstdev(values, mean)
        if deviation <= least:
            return [0.0] * len(values)
        return [(value - mean) / (deviation + least if self.normalise else 1.0) for value in values]

    def _weight(self, group: Sequence[ScoredResponse]) -> float:
        right = sum(s.verdict.correct for s in group)
        if self.method != "nft" or right in (0, len(group)):
            return 1.0
        wrong = len(group) - right
        return float((wrong / right) ** 0.5) if self.normalise else wrong / len(group)


def _drops(scores: Sequence[float]) -> bool:
    return any(before - after > _DROP * before for before, after in pairwise(scores))


def _consistent(group: Sequence[ScoredResponse]) -> list[ScoredResponse]:
    """Half of the responses: right and wrong as even as can be, of each those whose process reward agrees best."""
    right = sorted((s for s in group if s.verdict.correct), key=lambda s: s.process_reward or 0.0, reverse=True)
    wrong = sorted((s for s in group if not s.verdict.correct), key=lambda s: s.process_reward or 0.0)
    size = (len(group) + 1) // 2
    number = min(len(right), max(size // 2, size - len(wrong)))
    kept = {id(s) for s in (*right[:number], *wrong[: size - number])}
    return [s for s in group if id(s) in kept]
