"""The dynamics of self-evolving training, measured on the validation prompts (M-STaR: adaptive exploration)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Final

import numpy as np

from mstar import metrics
from mstar.distributed import by_shard
from mstar.evaluation.greedy import GREEDY
from mstar.generation import Engine, Request, draw_responses, plan_samples
from mstar.grading import Grader, grade_response
from mstar.rewards import Reward, add_process_rewards
from mstar.storage import PromptResponses
from mstar.temperature import Pair
from mstar.types import Prompt, ScoredResponse

__all__ = ["Dynamics", "RewardQuality", "Sweep", "measure_dynamics", "reward_quality", "sweep", "warn_of_likelihood"]

# Validation prompts that are sampled as one unit, by one process; each reads the results of all.
_SHARD: Final = 64


@dataclass(frozen=True, slots=True)
class RewardQuality:
    """How well process rewards tell good responses from bad ones, on distinct responses.

    A response is good if its whole chain is right where the data knows that, else if its final answer is right.

    Attributes:
        auc: AUC over the responses of all prompts together; it also rewards knowing which prompts are hard.
        auc_within: Mean of the AUCs within prompts: what ranking one prompt's responses needs.
        auc_within_correct: The same among responses with the right answer; None where chains are not known.
        likelihood_auc_within: ``auc_within`` with the policy's own log-probability as the score, for comparison.
        likelihood_auc_within_correct: The same among responses with the right answer.
        likelihood_lead: By how much the likelihood's AUC is higher within prompts, among right answers where chains are
            known; negative where the MPRM ranks better.
        likelihood_lead_error: Its standard error, over the prompts.
        best_of_n: Accuracy of the response with the highest reward.
        majority: Accuracy of the most frequent answer; it uses no reward.
        weighted_vote: Accuracy of the answer with the largest sum of rewards.
    """

    auc: float | None
    auc_within: float | None
    auc_within_correct: float | None
    likelihood_auc_within: float | None
    likelihood_auc_within_correct: float | None
    likelihood_lead: float | None
    likelihood_lead_error: float | None
    best_of_n: float
    majority: float
    weighted_vote: float


@dataclass(frozen=True, slots=True)
class Dynamics:
    """What the policy can do at one moment.

    Attributes:
        greedy_accuracy: Accuracy of greedy decoding.
        greedy_chain_accuracy: Share of greedy responses that are right throughout; None where that is not known.
        mean_accuracy: Accuracy of a single sample.
        pass_at_k: Share of the prompts with a right answer among ``k`` samples.
        k: Samples of a prompt.
        pass_at_k_gap: ``pass_at_k`` - ``greedy_accuracy``: what is left to learn from.
        majority: Accuracy of the most frequent answer.
        reward_pass_at_k: Share of the prompts with a right answer among the ``reward_k`` distinct samples with the
            highest process reward; None without an MPRM.
        reward_k: The k of ``reward_pass_at_k``.
        reward: Quality of the MPRM; None without one.
    """

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

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for a report."""
        return asdict(self)


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

    def paired_errors(self, names: Mapping[int, str], current: Pair) -> dict[Pair, float]:
        """The same as ``errors`` for pairs of a temperature and a number, by the name of each number's metric."""
        temperature, number = current
        if temperature not in self.values or number not in names:
            return {}
        there = self.values[temperature][names[number]]
        return {
            (t, n): metrics.standard_error(np.subtract(row[name], there))
            for t, row in self.values.items()
            for n, name in names.items()
        }

    def errors(self, metric: str, current: float) -> dict[float, float]:
        """The standard error of every candidate's difference from the current temperature; empty if that is none."""
        if current not in self.values:
            return {}
        there = self.values[current][metric]
        return {t: metrics.standard_error(np.subtract(row[metric], there)) for t, row in self.values.items()}

    def spread(self, metric: str) -> tuple[float, float]:
        """How far the best candidate is from the worst, and the standard error of that difference."""
        means = {t: row[metric] for t, row in self.scores.items()}
        best, worst = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
        differences = np.subtract(self.values[best][metric], self.values[worst][metric])
        return means[best] - means[worst], metrics.standard_error(differences)


def reward_quality(groups: Sequence[Sequence[ScoredResponse]]) -> RewardQuality:
    """Measures process rewards; every response must have one."""
    distinct = [s for group in groups for s in {s.response.text.strip(): s for s in reversed(group)}.values()]
    good = [s.verdict.correct if s.chain_correct is None else s.chain_correct for s in distinct]
    ids = [s.response.prompt_id for s in distinct]
    rewards = [s.process_reward or 0.0 for s in distinct]
    logprobs = [s.response.logprob for s in distinct]
    right = [i for i, s in enumerate(distinct) if s.verdict.correct and s.chain_correct is not None]

    def among_right(scores: list[float]) -> float | None:
        return metrics.within_group_auc(
            [scores[i] for i in right], [good[i] for i in right], [ids[i] for i in right]
        ).value

    auc_within_correct = among_right(rewards)
    compared = right if auc_within_correct is not None else range(len(distinct))
    lead, error = metrics.within_group_lead(
        [rewards[i] for i in compared],
        [logprobs[i] for i in compared],
        [good[i] for i in compared],
        [ids[i] for i in compared],
    ) or (None, None)
    return RewardQuality(
        auc=metrics.auc(rewards, good),
        auc_within=metrics.within_group_auc(rewards, good, ids).value,
        auc_within_correct=auc_within_correct,
        likelihood_auc_within=metrics.within_group_auc(logprobs, good, ids).value,
        likelihood_auc_within_correct=among_right(logprobs),
        likelihood_lead=lead,
        likelihood_lead_error=error,
        best_of_n=metrics.best_of_n(groups),
        majority=metrics.majority(groups),
        weighted_vote=metrics.weighted_vote(groups),
    )


def warn_of_likelihood(quality: Mapping[str, float | None]) -> str | None:
    """What to do where the policy's likelihood ranks better than the MPRM, by more than the standard error; else None.

    Args:
        quality: The fields of a ``RewardQuality``, as a report has them; one of an older run may lack some.
    """
    lead, error = quality.get("likelihood_lead"), quality.get("likelihood_lead_error")
    if lead is None or error is None or lead <= error:
        return None
    return (
        f"the policy's likelihood ranks a prompt's responses better than the MPRM (AUC higher by {lead:.3f}, standard "
        f"error {error:.3f}): refresh it (rollout.refresh_reward_model), or stop paying for it (rollout.selection: "
        "likelihood)"
    )


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
    """Samples on validation prompts and measures; several processes share the prompts out.

    Args:
        engine: Draws the responses.
        prompts: Validation prompts.
        grader: Decides whether an answer is right.
        reward: The MPRM, if there is one.
        num_samples: K of Pass@K.
        temperature: Sampling temperature.
        seed: Seed of the run.
        stage: What the samples are for; part of their seeds.
        reward_k: The k of Reward-Pass@k.
    """

    def respond(part: Sequence[Prompt]) -> list[list[ScoredResponse]]:
        requests = [
            Request(p, (GREEDY, *plan_samples(seed, stage, p.id, num_samples, temperature, first_index=1)))
            for p in part
        ]
        written = draw_responses(engine, requests)
        graded = [[grade_response(p, r, grader) for r in row] for p, row in zip(part, written, strict=True)]
        if reward is None:
            return graded
        samples = [PromptResponses(p, tuple(row[1:])) for p, row in zip(part, graded, strict=True)]
        rated = add_process_rewards(samples, reward)
        return [[row[0], *group.responses] for row, group in zip(graded, rated, strict=True)]

    graded = by_shard(prompts, _SHARD, respond, engine.group_size)
    greedy = [row[:1] for row in graded]
    samples = [row[1:] for row in graded]
    quality = reward_quality(samples) if reward is not None else None
    reward_pass = metrics.reward_pass_at_k(samples, reward_k) if reward is not None else None
    greedy_accuracy = metrics.mean_accuracy(greedy)
    pass_at_k = metrics.pass_at_k(samples)
    return Dynamics(
        greedy_accuracy=greedy_accuracy,
        greedy_chain_accuracy=metrics.chain_accuracy(greedy),
        mean_accuracy=metrics.mean_accuracy(samples),
        pass_at_k=pass_at_k,
        k=num_samples,
        pass_at_k_gap=pass_at_k - greedy_accuracy,
        majority=metrics.majority(samples),
        reward_pass_at_k=reward_pass,
        reward_k=reward_k,
        reward=quality,
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
        written = draw_responses(engine, requests)
        groups = add_process_rewards(
            [
                PromptResponses(p, tuple(grade_response(p, r, grader) for r in row))
                for p, row in zip(part, written, strict=True)
            ],
            reward,
        )
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
    scores = by_shard(prompts, _SHARD, score, engine.group_size)
    return Sweep(
        {
            temperature: {name: tuple(row[i][j] for row in scores) for j, name in enumerate(names)}
            for i, temperature in enumerate(candidates)
        }
    )
