"""How well process rewards tell good responses from bad ones, beside the policy's own likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mstar import metrics
from mstar.types import ScoredResponse


@dataclass(frozen=True, slots=True)
class RewardQuality:
    """How well process rewards tell good responses from bad ones, on distinct responses.

    A response is good if its whole chain is right where the data knows that, else if its final answer is right.

    Attributes:
        auc: AUC over the responses of all prompts together; it also rewards knowing which prompts are hard.
        auc_within: Mean of the AUCs within prompts: what ranking one prompt's responses needs.
        compared: How many prompts have good and bad responses: ``auc_within`` is a mean over these alone.
        auc_within_correct: The same among responses with the right answer; None where chains are not known.
        compared_correct: How many prompts ``auc_within_correct`` is a mean over.
        likelihood_auc_within: ``auc_within`` with the policy's own log-probability as the score, for comparison; None
            where that of a response is not known, as all of likelihood.
        likelihood_auc_within_correct: The same among responses with the right answer.
        likelihood_lead: By how much the likelihood's AUC is higher within prompts, among right answers where chains are
            known; negative where the MPRM ranks better.
        likelihood_lead_error: Its standard error, over the prompts.
        majority: Accuracy of the most frequent answer; it uses no reward.
        weighted_vote: Accuracy of the answer with the largest sum of rewards.
    """

    auc: float | None
    auc_within: float | None
    compared: int
    auc_within_correct: float | None
    compared_correct: int
    likelihood_auc_within: float | None
    likelihood_auc_within_correct: float | None
    likelihood_lead: float | None
    likelihood_lead_error: float | None
    best_of_n: float
    majority: float
    weighted_vote: float


def reward_quality(groups: Sequence[Sequence[ScoredResponse]]) -> RewardQuality:
    """Measures process rewards; every response must have one."""
    distinct = [s for group in groups for s in {s.response.text.strip(): s for s in reversed(group)}.values()]
    good = [s.verdict.correct if s.chain_correct is None else s.chain_correct for s in distinct]
    ids = [s.response.prompt_id for s in distinct]
    rewards = [s.process_reward or 0.0 for s in distinct]
    logprobs = [s.response.logprob for s in distinct]
    right = [i for i, s in enumerate(distinct) if s.verdict.correct and s.chain_correct is not None]

    is_known = not any(map(math.isnan, logprobs))

    def among_right(scores: list[float]) -> float | None:
        return metrics.within_group_auc([scores[i] for i in right], [good[i] for i in right], [ids[i] for i in right])

    auc_within_correct = among_right(rewards)
    ranked = right if auc_within_correct is not None else range(len(distinct))
    found = metrics.within_group_lead(
        [rewards[i] for i in ranked],
        [logprobs[i] for i in ranked],
        [good[i] for i in ranked],
        [ids[i] for i in ranked],
    )
    lead, error = found if found is not None and is_known else (None, None)
    return RewardQuality(
        auc=metrics.auc(rewards, good),
        auc_within=metrics.within_group_auc(rewards, good, ids),
        compared=metrics.compared_groups(good, ids),
        auc_within_correct=auc_within_correct,
        compared_correct=metrics.compared_groups([good[i] for i in right], [ids[i] for i in right]),
        likelihood_auc_within=metrics.within_group_auc(logprobs, good, ids) if is_known else None,
        likelihood_auc_within_correct=among_right(logprobs) if is_known else None,
        likelihood_lead=lead,
        likelihood_lead_error=error,
        best_of_n=metrics.best_of_n(groups),
        majority=metrics.majority(groups),
        weighted_vote=metrics.weighted_vote(groups),
    )


def warn_of_likelihood(quality: Mapping[str, float | None], *, refreshes: bool) -> str | None:
    """What to do where the policy's likelihood ranks better than the MPRM, by two standard errors; else None.

    Where both rank equally well, one iteration in forty is beyond two, and one in six beyond one.

    Args:
        quality: The fields of a ``RewardQuality``, as a report has them; one of an older run may lack some.
        refreshes: Whether the run refreshes its MPRM.
    """
    lead, error = quality.get("likelihood_lead"), quality.get("likelihood_lead_error")
    if lead is None or error is None or lead <= 2 * error:
        return None
    how = "refresh it more often" if refreshes else "refresh it"
    return (
        f"the policy's likelihood ranks a prompt's responses better than the MPRM (AUC higher by {lead:.3f}, standard "
        f"error {error:.3f}): {how} (rollout.refresh_reward_model), or stop paying for it (rollout.selection: "
        "likelihood)"
    )
