"""Scores of a policy and of a reward model, and voting over the answers of one prompt.

A *group* is all the responses of one prompt. Functions over groups return shares in [0, 1] and raise ValueError without
any group. Wherever responses are ranked by process reward, a reward that is not a number ranks last, ties go to the
smaller sample index, and a missing reward is a ConfigError.

Shapes: Q items, M columns, R resamples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from mstar.errors import ConfigError
from mstar.types import ScoredResponse

Groups = Sequence[Sequence[ScoredResponse]]
Values = npt.NDArray[np.float64]


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting a half.

    Args:
        scores: One score an item; one that is not a number counts as the lowest.
        labels: One truth value an item.

    Returns:
        The area, or None where one of the classes is missing.

    Raises:
        ValueError: scores and labels differ in number.
    """
    values = np.asarray(scores, dtype=np.float64)
    positive = np.asarray(labels, dtype=bool)
    if values.shape != positive.shape or values.ndim != 1:
        raise ValueError(f"auc: scores have the shape {values.shape}, labels {positive.shape}.")
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if num_positive == 0 or num_negative == 0:
        return None
    values = np.where(np.isnan(values), -np.inf, values)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    u = ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(u / (num_positive * num_negative))


def within_group_auc(scores: Sequence[float], labels: Sequence[bool], groups: Sequence[Hashable]) -> float | None:
    """Mean of the AUCs within groups, which a scorer that only knows how hard a prompt is cannot raise."""
    known = _group_aucs(scores, labels, groups)
    return sum(known) / len(known) if known else None


def compared_groups(labels: Sequence[bool], groups: Sequence[Hashable]) -> int:
    """How many groups have both classes, so that an AUC within groups is a mean over them."""
    # One with both is there twice.
    return len(set(zip(groups, labels, strict=True))) - len(set(groups))


def within_group_lead(
    scores: Sequence[float], rival: Sequence[float], labels: Sequence[bool], groups: Sequence[Hashable]
) -> tuple[float, float] | None:
    """By how much a rival's scores rank better within groups, and the standard error of that.

    Returns:
        The mean over the groups of the rival's AUC minus the other, and its standard error; None if fewer than two
        groups have both classes.
    """
    own, other = _group_aucs(scores, labels, groups), _group_aucs(rival, labels, groups)
    if len(own) < 2:
        return None
    leads = np.subtract(other, own)
    return float(leads.mean()), standard_error(leads)


def _group_aucs(scores: Sequence[float], labels: Sequence[bool], groups: Sequence[Hashable]) -> list[float]:
    """The AUCs of the groups that have both classes, in the order in which the groups occur."""
    members: dict[Hashable, list[tuple[float, bool]]] = defaultdict(list)
    for score, label, group in zip(scores, labels, groups, strict=True):
        members[group].append((score, label))
    values = [auc([s for s, _ in items], [y for _, y in items]) for items in members.values()]
    return [value for value in values if value is not None]


def expected_calibration_error(probabilities: npt.ArrayLike, soft_labels: npt.ArrayLike, bins: int = 10) -> float:
    """How far probabilities are from what happened: |mean probability - mean label| over equally wide bins.

    Args:
        soft_labels: One label in [0, 1] an item.
        bins: Number of bins over [0, 1]; each weighs as many items as it holds.

    Raises:
        ValueError: there is no item, the two differ in number, or a probability is outside [0, 1].
    """
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(soft_labels, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1 or len(p) == 0:
        raise ValueError(f"expected_calibration_error: probabilities have the shape {p.shape}, labels {y.shape}.")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("expected_calibration_error: a probability is outside [0, 1].")
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(index, weights=p - y, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))


def rank_by_process_reward(scored: Iterable[ScoredResponse]) -> list[ScoredResponse]:
    """The responses from the highest process reward to the lowest."""
    return sorted(scored, key=lambda s: (-_finite_or_last(_process_reward(s)), s.response.sample_index))


def mean_accuracy(groups: Groups) -> float:
    """Share of right final answers within a prompt, averaged over prompts; of greedy responses: greedy accuracy."""
    return _mean(sum(s.verdict.correct for s in group) / max(len(group), 1) for group in groups)


def chain_accuracy(groups: Groups) -> float | None:
    """Share of the responses that are right from the first step to the last; None where the data does not know it."""
    known = [s.chain_correct for group in groups for s in group if s.chain_correct is not None]
    return sum(known) / len(known) if known else None


def pass_at_k(groups: Groups) -> float:
    """Share of the prompts with a right answer among all their samples (M-STaR: Pass@K, exploration)."""
    return _mean(any(s.verdict.correct for s in group) for group in groups)


def reward_pass_at_k(groups: Groups, k: int) -> float:
    """Share of the prompts with a right answer among the k distinct responses with the highest process reward.

    M-STaR: Reward-Pass@K, exploitation. Copies of one text count once, so that k means k things to learn from.
    """
    return _mean(any(_best_distinct(group, k)) for group in groups)


def balance_at_k(groups: Groups, k: int, top_k: int | None = None) -> float:
    """The balance of exploration and exploitation among the distinct responses with the highest process reward.

    B-STaR's query effect (arXiv 2412.17256), ``min(right / k, 1) * right / chosen``, averaged over prompts: many right
    responses that differ, and few wrong ones among those that the reward would choose. The reward is that of steps
    alone: the paper's has the right answer in it (a fifth of its own for steps), and hardly chooses a wrong one.

    Args:
        k: The number of right responses that is aimed at (the paper's n*; its code has 8 of 64 samples).
        top_k: How many responses are chosen; None chooses as many as are aimed at.
    """

    def balance(group: Sequence[ScoredResponse]) -> float:
        chosen = _best_distinct(group, k if top_k is None else top_k)
        return min(sum(chosen) / k, 1.0) * sum(chosen) / max(len(chosen), 1)

    return _mean(balance(group) for group in groups)


def _best_distinct(group: Sequence[ScoredResponse], k: int) -> list[bool]:
    """Whether each of the k distinct responses with the highest process reward is right."""
    distinct: dict[str, bool] = {}
    for s in rank_by_process_reward(group):
        distinct.setdefault(s.response.text.strip(), s.verdict.correct)
    return list(distinct.values())[:k]


def best_of_n(groups: Groups) -> float:
    """Share of the prompts whose response with the highest process reward is right: the reward model as verifier."""
    return reward_pass_at_k(groups, 1)


def majority(groups: Groups) -> float:
    """Share of the prompts whose most frequent answer is right."""
    return _mean(_answers_right(group, majority_answer(group)) for group in groups)


def weighted_vote(groups: Groups) -> float:
    """Share of the prompts whose answer with the largest sum of process rewards is right."""
    return _mean(_answers_right(group, weighted_vote_answer(group)) for group in groups)


def majority_answer(scored: Sequence[ScoredResponse]) -> str | None:
    """The most frequent answer of one prompt's responses; ties go to the earliest sample; None without any answer."""
    return winner(votes(scored, weighted=False))


def weighted_vote_answer(scored: Sequence[ScoredResponse]) -> str | None:
    """The answer with the largest sum of process rewards (M-STaR: the pseudo answer of an unlabelled prompt).

    Ties go to the earliest sample; a response whose reward is not a number has no vote; None without any vote.
    """
    return winner(votes(scored, weighted=True))


def votes(scored: Sequence[ScoredResponse], *, weighted: bool) -> dict[str, float]:
    """The votes for every answer of one prompt's responses, in the order of each answer's earliest sample.

    Which answers are one is told without the gold answer, where the verdicts know it (``Verdict.vote``).

    Args:
        weighted: Whether a response's vote counts its process reward; one that is not a number is no vote.
    """
    totals: dict[str, float] = {}
    for s in sorted(scored, key=lambda s: s.response.sample_index):
        answer = _vote(s)
        if not answer or (weighted and math.isnan(_process_reward(s))):
            continue
        totals[answer] = totals.get(answer, 0.0) + (_process_reward(s) if weighted else 1.0)
    return totals


def winner(totals: Mapping[str, float]) -> str | None:
    """The answer with the most votes (see ``votes``), of equals the first; None without any."""
    # max returns the first of equals.
    return max(totals, key=totals.__getitem__, default=None)


def bootstrap_interval(
    parts: Sequence[Values], seed: int, resamples: int = 1000, clusters: Sequence[Sequence[Hashable]] = ()
) -> tuple[Values, Values, Values]:
    """The mean of the parts' means for every column, and its 95 % percentile interval, resampled within each part.

    Args:
        parts: In each the values of one or more items (rows), which are drawn with those of all columns.
        clusters: For every part what each item is of, such as the question that it is a variant of: those of one
            cluster are drawn together, in all parts that it is in. None takes items that have nothing in common.

    Returns:
        For every column the mean, and the lower and upper end.
    """
    rng = np.random.default_rng(seed)
    names = clusters or [[(part, item) for item in range(len(values_QM))] for part, values_QM in enumerate(parts)]
    number = {name: place for place, name in enumerate(dict.fromkeys(chain.from_iterable(names)))}
    codes = [np.array([number[name] for name in part]) for part in names]
    # Drawn among those that are in the same parts, so that no part is ever without any.
    inside = np.array([np.isin(range(len(number)), part) for part in codes]).T
    strata = [np.flatnonzero((inside == kind).all(axis=1)) for kind in np.unique(inside, axis=0)]
    means_RM = np.zeros((resamples, parts[0].shape[1]))
    for means_M in means_RM:
        times = np.zeros(len(number))
        for members in strata:
            times[members] = np.bincount(rng.integers(len(members), size=len(members)), minlength=len(members))
        for values_QM, part in zip(parts, codes, strict=True):
            means_M += times[part] @ values_QM / times[part].sum()
    low_M, high_M = np.quantile(means_RM / len(parts), [0.025, 0.975], axis=0)
    return np.mean([values_QM.mean(axis=0) for values_QM in parts], axis=0), low_M, high_M


def standard_error(values: npt.ArrayLike) -> float:
    """The standard error of a mean, such as that of the differences of two scores of each prompt; NaN of one value."""
    items = np.asarray(values, dtype=np.float64)
    return float(items.std(ddof=1) / math.sqrt(len(items))) if len(items) > 1 else math.nan


def _mean(values: Iterable[float]) -> float:
    items = list(values)
    if not items:
        raise ValueError("There is no group to average over.")
    return sum(items) / len(items)


def _process_reward(scored: ScoredResponse) -> float:
    if scored.process_reward is None:
        raise ConfigError(
            f"Response {scored.response.sample_index} to prompt '{scored.response.prompt_id}' has no process reward, "
            "which ranking and weighted voting need; set a reward model."
        )
    return scored.process_reward


def _finite_or_last(score: float) -> float:
    return -math.inf if math.isnan(score) else score


def _answers_right(group: Sequence[ScoredResponse], answer: str | None) -> bool:
    """Whether the answer that was voted for is right: by the verdict on its earliest sample."""
    voters = [s for s in group if answer is not None and _vote(s) == answer]
    return bool(voters) and min(voters, key=lambda s: s.response.sample_index).verdict.correct


def _vote(scored: ScoredResponse) -> str | None:
    return scored.verdict.predicted if scored.verdict.vote is None else scored.verdict.vote
