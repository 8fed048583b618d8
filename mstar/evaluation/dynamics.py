"""The dynamics of self-evolving training, measured on the validation prompts (M-STaR: adaptive exploration)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Final

import numpy as np

from mstar import metrics
from mstar.distributed import by_leader, by_shard, world_size
from mstar.evaluation.reward_quality import RewardQuality, reward_quality
from mstar.evaluation.votes import grade_voters
from mstar.generation import Engine, Request, draw_responses, plan_samples
from mstar.generation.base import GREEDY
from mstar.grading import Grader, grade_all
from mstar.rewards import Reward, add_process_rewards
from mstar.storage import PromptResponses
from mstar.temperature import Pair
from mstar.types import Prompt, ScoredResponse

# Validation prompts that are sampled as one unit, by one process; each reads the results of all.
_SHARD: Final = 16
# Those of a sweep with one candidate; a prompt has as many responses for each. And the most of a continuous engine's.
_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class Dynamics:
    """What the policy can do at one moment.

    Attributes:
        prompts: How many validation prompts it was measured on.
        greedy_chain_accuracy: Share of greedy responses that are right throughout; None where that is not known.
        pass_at_k: Share of the prompts with a right answer among ``k`` samples.
        pass_at_k_gap: ``pass_at_k`` - ``greedy_accuracy``: what is left to learn from.
        majority: Accuracy of the most frequent answer.
        reward_pass_at_k: Share of the prompts with a right answer among the ``reward_k`` distinct samples with the
            highest process reward; None without an MPRM.
        reward: Quality of the MPRM; None without one.
    """

    prompts: int
    greedy_accuracy: float
    greedy_chain_accuracy: float | None
    mean_accuracy: float
    pass_at_k: float
    k: int
    pass_at_k_gap: float
    majority: float
    reward_pass_at_k: float | None
    reward_k: int
    reward: RewardQuality | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """What every candidate temperature reached on the validation prompts.

    Attributes:
        values: For every temperature and metric one value a prompt, the prompts in the same order.
    """

    values: Mapping[float, Mapping[str, Sequence[float]]]

    @property
    def scores(self) -> dict[float, dict[str, float]]:
        """The metrics' means."""
        return {t: {name: fmean(values) for name, values in row.items()} for t, row in self.values.items()}

    def errors(self, names: Mapping[int, str], current: Pair) -> dict[Pair, float]:
        """The standard error of every candidate's difference from the current one; empty if that is none.

        Args:
            names: The metric of every number of responses that may be kept.
            current: The temperature that held so far, and the number.
        """
        temperature, number = current
        if temperature not in self.values or number not in names:
            return {}
        there = self.values[temperature][names[number]]
        return {
            (t, n): metrics.standard_error(np.subtract(row[name], there))
            for t, row in self.values.items()
            for n, name in names.items()
        }

    def report(self, names: Mapping[int, str], current: Pair, chosen: Pair) -> dict[str, Any]:
        """What an iteration's report says of it.

        ``lead`` is by how much the chosen candidate is above the current one, or the best where that stays, with the
        standard error of that difference; both are None where one of them is no candidate. It is the lead of the best
        of many, so that it is biased upwards, and the standard error does not know of that.
        """
        means, errors = self.scores, self.errors(names, current)
        scores = {(t, number): row[name] for t, row in means.items() for number, name in names.items()}
        best = max(scores, key=scores.__getitem__) if chosen == current else chosen
        error = errors.get(best, math.nan)
        return {
            "current": current[0],
            "chosen": chosen[0],
            "metric": names.get(chosen[1], next(iter(names.values()))),
            "lead": scores[best] - scores[current] if {best, current} <= scores.keys() else None,
            "standard_error": None if math.isnan(error) else error,
            "scores": {str(t): row for t, row in means.items()},
        }


def _shard_size(engine: Engine, num_prompts: int, fixed: int) -> int:
    """The prompts of a shard: so many, or where an engine rounds as it happens to batch, equal shares.

    Such an engine has places empty at the end of every shard, while the longest response is written.
    """
    if not engine.continuous:
        return fixed
    groups = world_size() // engine.group_size
    shards = groups * math.ceil(num_prompts / (groups * _MOST))
    return math.ceil(num_prompts / max(shards, 1)) or 1


def measure_dynamics(
    engine: Engine,
    prompts: Sequence[Prompt],
    grader: Grader,
    reward: Reward | None,
    *,
    num_samples: int,
    temperature: float,
    seed: int,
    stage: str,
    reward_k: int = 2,
) -> Dynamics:
    """Samples on validation prompts and measures; several processes share the prompts out."""

    def respond(part: Sequence[Prompt]) -> list[list[ScoredResponse]]:
        requests = [
            Request(p, (GREEDY, *plan_samples(seed, stage, p.id, num_samples, temperature, first_index=1)))
            for p in part
        ]
        drawn = draw_responses(engine, requests, "dynamics")
        graded = by_leader(partial(grade_voters, part, drawn, grader), engine.group_size)
        if reward is None:
            return graded
        samples = [PromptResponses(p, tuple(row[1:])) for p, row in zip(part, graded, strict=True)]
        rated = add_process_rewards(samples, reward)
        return [[row[0], *group.responses] for row, group in zip(graded, rated, strict=True)]

    graded = by_shard(prompts, _shard_size(engine, len(prompts), _SHARD), respond, engine.group_size)
    greedy = [row[:1] for row in graded]
    samples = [row[1:] for row in graded]
    greedy_accuracy, pass_at_k = metrics.mean_accuracy(greedy), metrics.pass_at_k(samples)
    return Dynamics(
        prompts=len(prompts),
        greedy_accuracy=greedy_accuracy,
        greedy_chain_accuracy=metrics.chain_accuracy(greedy),
        mean_accuracy=metrics.mean_accuracy(samples),
        pass_at_k=pass_at_k,
        k=num_samples,
        pass_at_k_gap=pass_at_k - greedy_accuracy,
        majority=metrics.majority(samples),
        reward_pass_at_k=None if reward is None else metrics.reward_pass_at_k(samples, reward_k),
        reward_k=reward_k,
        reward=None if reward is None else reward_quality(samples),
    )


def sweep(
    engine: Engine,
    prompts: Sequence[Prompt],
    grader: Grader,
    reward: Reward,
    *,
    candidates: Sequence[float],
    num_samples: int,
    k: int,
    seed: int,
    stage: str,
    top_k: Sequence[int] = (),
) -> Sweep:
    """Measures every candidate temperature; one request holds all of a prompt's, so each prompt is encoded once.

    Returns:
        For every temperature: ``reward_pass@<k>``, ``balance@<k>``, ``pass@<num_samples>``, ``accuracy`` (of a single
        sample), and for every candidate of ``top_k``, on the same samples, ``balance@<k>_top_<candidate>``.
    """
    starts = range(0, len(candidates) * num_samples, num_samples)

    def score(part: Sequence[Prompt]) -> list[list[tuple[float, ...]]]:
        requests = [
            Request(
                p,
                tuple(
                    sample
                    for first, t in zip(starts, candidates, strict=True)
                    for sample in plan_samples(seed, stage, p.id, num_samples, t, first_index=first)
                ),
            )
            for p in part
        ]
        drawn = draw_responses(engine, requests, "sweep")
        graded = by_leader(partial(grade_all, part, drawn, grader), engine.group_size)
        samples = [PromptResponses(p, tuple(row)) for p, row in zip(part, graded, strict=True)]
        groups = add_process_rewards(samples, reward)
        by_temperature = [[[g.responses[first : first + num_samples]] for first in starts] for g in groups]
        return [
            [
                (
                    metrics.reward_pass_at_k(group, k),
                    metrics.balance_at_k(group, k),
                    metrics.pass_at_k(group),
                    metrics.mean_accuracy(group),
                    *(metrics.balance_at_k(group, k, number) for number in top_k),
                )
                for group in row
            ]
            for row in by_temperature
        ]

    names = (
        f"reward_pass@{k}", f"balance@{k}", f"pass@{num_samples}", "accuracy",
        *(f"balance@{k}_top_{number}" for number in top_k),
    )  # fmt: skip
    size = _shard_size(engine, len(prompts), max(1, _MOST // len(candidates)))
    scores = by_shard(prompts, size, score, engine.group_size)
    return Sweep(
        {
            temperature: {name: tuple(row[i][j] for row in scores) for j, name in enumerate(names)}
            for i, temperature in enumerate(candidates)
        }
    )
