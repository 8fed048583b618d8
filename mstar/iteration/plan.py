"""What one iteration does: which prompts it takes, the shards that these are cut into, and what an engine is asked for.

Which prompts they are is a function of the seed and the iteration's number alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mstar.generation import Request, derive_seed, plan_samples
from mstar.prompts.base import Mixing
from mstar.prompts.hidden import hide_answers
from mstar.provenance import fingerprint_prompts
from mstar.selection import Balance, Voting
from mstar.types import Prompt


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """What one iteration does.

    Attributes:
        iteration: Its number, from 1.
        num_samples: Responses drawn for a prompt (M-STaR: K).
        answer_conditioned: Whether the policy is shown the gold answer while it samples (M-STaR: warm-up); prompts
            that are voted on have none to show.
        vote: Whether unlabelled prompts get the weighted vote as their answer; otherwise their own hidden one.
        keep_tokens: Whether responses keep their tokens with the log-probabilities, for methods that need a ratio.
        ahead: The shards that were drawn while the iteration before trained.
    """

    iteration: int
    seed: int
    num_samples: int
    temperature: float
    answer_conditioned: bool = False
    vote: bool = True
    voting: Voting = field(default_factory=Voting)
    shard_size: int = 256
    balance: Balance = field(default_factory=Balance)
    keep_tokens: bool = False
    ahead: tuple[int, ...] = ()

    @property
    def counts(self) -> range:
        """How many responses a prompt may have."""
        return range(self.num_samples, self.num_samples * (2 if self.balance.extra_samples else 1) + 1)

    @property
    def stage(self) -> str:
        """The name of the iteration in seeds."""
        return f"rollout/{self.iteration}"

    def requests(self, prompts: Sequence[Prompt], places: Sequence[range], hidden: Collection[str]) -> list[Request]:
        """What an engine is asked for.

        Args:
            places: For each of them, the numbers of the samples.
            hidden: The ids of those whose answer is not shown.
        """
        return [
            Request(
                prompt,
                plan_samples(
                    self.seed, self.stage, prompt.id, len(numbers), self.temperature, first_index=numbers.start
                ),
                show_answer=self.answer_conditioned and prompt.id not in hidden,
                keep_tokens=self.keep_tokens,
            )
            for prompt, numbers in zip(prompts, places, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class IterationPrompts:
    """The prompts of an iteration, cut into shards of a fixed size; they are asked for by number, a shard at a time.

    Attributes:
        unlabelled: Prompts whose answers training must not see; with ``plan.vote`` they are removed at once, and the
            vote's answer takes their place.
    """

    labelled: Sequence[Prompt]
    unlabelled: Sequence[Prompt]
    plan: IterationPlan

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    @property
    def num_shards(self) -> int:
        """How many shards they are cut into."""
        return len(range(0, len(self), self.plan.shard_size))

    def shard_length(self, number: int) -> int:
        """How many prompts a shard has."""
        return min(self.plan.shard_size, len(self) - number * self.plan.shard_size)

    def shard(self, number: int) -> tuple[list[Prompt], Mapping[str, Prompt]]:
        """The prompts of a shard; and as they are, by id, those whose answers it hides."""
        labelled, others = self._parts(number)
        if not self.plan.vote:
            return [*labelled, *others], {}
        shown = [hide_answers(prompt) for prompt in others]
        return [*labelled, *shown], {prompt.id: prompt for prompt in others}

    def fingerprint(self, number: int) -> str:
        """The fingerprint of a shard's prompts."""
        labelled, others = self._parts(number)
        return fingerprint_prompts([*labelled, *others])

    def _parts(self, number: int) -> tuple[Sequence[Prompt], list[Prompt]]:
        start, first = number * self.plan.shard_size, len(self.labelled)
        stop = start + self.plan.shard_size
        return self.labelled[start:stop], list(self.unlabelled[max(start - first, 0) : max(stop - first, 0)])


def most_prompts(num_prompts: int, shard_size: int, groups: int) -> int:
    """How many prompts the group of processes has that has most, as they take the shards in turn."""
    return sum(min(shard_size, num_prompts - start) for start in range(0, num_prompts, shard_size * groups))


def iteration_indices(
    num_prompts: int, interval: float, iteration: int, seed: int, stage: str = "order", mixing: Mixing | None = None
) -> NDArray[np.int64]:
    """Which prompts one iteration uses: the next ``interval`` of the shuffled prompts, reshuffled after every pass.

    Args:
        interval: Fraction of them in one iteration, in (0, 1]; at least one prompt is used.
        iteration: The iteration's number, from 1.
        mixing: The weights of several sources, each of which is then gone through for itself; None for one source.
    """
    count = count_indices(num_prompts, interval)
    if mixing is None:
        chosen = _walk(num_prompts, (iteration - 1) * count, count, seed, stage)
    else:
        chosen = draw_mixed(mixing, count, iteration - 1, seed, stage)
    # An iteration may hold the end of one pass and the beginning of the next: a prompt that is in both is used once.
    _, places = np.unique(chosen, return_index=True)
    return chosen[np.sort(places)]


def count_indices(num_prompts: int, interval: float) -> int:
    """How many prompts an iteration uses, before those that are in it twice are left out."""
    return max(1, round(num_prompts * interval))


def draw_mixed(mixing: Mixing, count: int, number: int, seed: int, stage: str) -> NDArray[np.int64]:
    """The next ``count`` draws from several sources by their weights, in a shuffled order.

    Args:
        count: How many draws; a prompt may be drawn more than once.
        number: How often as many were drawn before.
    """
    parts = []
    for source, share in enumerate(mixing.counts(count)):
        if share:
            rows = np.flatnonzero(mixing.numbers_P == source)
            parts.append(rows[_walk(len(rows), number * share, share, seed, f"{stage}/source {source}")])
    drawn = np.concatenate(parts)
    return drawn[np.random.default_rng(derive_seed(seed, "mixed", stage, number)).permutation(len(drawn))]


def _walk(size: int, first: int, count: int, seed: int, stage: str) -> NDArray[np.int64]:
    """``count`` of ``size`` numbers from place ``first`` of an order that is shuffled anew after every pass."""
    passes = range(first // size, (first + count - 1) // size + 1)
    orders = [np.random.default_rng(derive_seed(seed, "prompts", stage, number)).permutation(size) for number in passes]
    offset = first - passes[0] * size
    return np.concatenate(orders)[offset : offset + count]
