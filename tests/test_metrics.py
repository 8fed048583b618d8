"""Scores and voting; expectations worked out by hand."""

from __future__ import annotations

import math
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstar import metrics
from mstar.errors import ConfigError
from mstar.types import Response, ScoredResponse, Verdict, VerdictStatus


def scored(
    index: int, answer: str | None, reward: float | None = None, *, text: str | None = None, gold: str = "7"
) -> ScoredResponse:
    """A response whose text is unique unless given; right if ``answer`` is ``gold``."""
    status = VerdictStatus.NO_ANSWER if answer is None else VerdictStatus.GRADED
    return ScoredResponse(
        Response("p", index, f"#{index} Answer: {answer}" if text is None else text, 5, True, 1.0, -1.0),
        Verdict(answer == gold, answer, status),
        process_reward=reward,
    )


# --- AUC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0),
        ([0.5, 0.5, 0.5], [0, 1, 1], 0.5),
        # pairs: 0.4>0.1, 0.4=0.4, 0.3>0.1, 0.3<0.4 -> (1 + 0.5 + 1 + 0) / 4
        ([0.1, 0.4, 0.4, 0.3], [0, 0, 1, 1], 0.625),
        ([nan, 0.0, nan], [1, 0, 0], 0.25),
        ([0.1, 0.2], [1, 1], None),
        ([0.1, 0.2], [0, 0], None),
        ([], [], None),
    ],
)
def test_auc(scores: list[float], labels: list[int], expected: float | None) -> None:
    assert metrics.auc(scores, labels) == expected


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
def test_auc_is_the_share_of_ordered_pairs(items: list[tuple[int, bool]]) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p, y in items if y for n, z in items if not z]
    expected = sum(pairs) / len(pairs) if pairs else None
    assert metrics.auc([s for s, _ in items], [y for _, y in items]) == pytest.approx(expected)


def test_auc_rejects_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="shape"):
        metrics.auc([0.1, 0.2], [True])


def test_within_group_auc_ignores_how_hard_the_prompts_are() -> None:
    # Easy prompt a scores high, hard prompt b low; inside each, the order is wrong once and right once.
    scores = [0.9, 0.8, 0.2, 0.1, 0.99]
    labels = [False, True, True, False, True]
    assert metrics.within_group_auc(scores, labels, ["a", "a", "b", "b", "one class only"]) == 0.5


def test_within_group_auc_weighs_groups_and_not_responses() -> None:
    scores = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    labels = [True, False, False, False, True, False]
    assert metrics.within_group_auc(scores, labels, [1, 1, 1, 1, 2, 2]) == 0.5


def test_within_group_auc_without_a_usable_group() -> None:
    assert metrics.within_group_auc([0.1, 0.2], [True, False], ["a", "b"]) is None


def test_a_rival_s_lead_is_paired_by_group() -> None:
    # By group, the first ranks 1, 0, 1 and the rival 1, 1, 1: leads of 0, 1, 0.
    labels, groups = [True, False] * 3, ["a", "a", "b", "b", "c", "c"]
    scores, rival = [2.0, 1.0, 1.0, 2.0, 2.0, 1.0], [2.0, 1.0] * 3
    assert metrics.within_group_lead(scores, rival, labels, groups) == pytest.approx((1 / 3, 1 / 3))
    assert metrics.within_group_lead(scores[:2], rival[:2], labels[:2], groups[:2]) is None


# --- calibration -----------------------------------------------------------------------------------------------------


def test_expected_calibration_error() -> None:
    # bin [0.2, 0.3): |0.25 - 0.5| over 2 of 4 items; bin [0.9, 1]: mean 0.95 against 1.0 over 2 of 4 items.
    value = metrics.expected_calibration_error([0.2, 0.29999, 0.9, 1.0], [0.0, 1.0, 1.0, 1.0])
    assert value == pytest.approx(0.5 * 0.250005 + 0.5 * 0.05)


def test_errors_of_opposite_sign_cancel_within_a_bin_only() -> None:
    assert metrics.expected_calibration_error([0.4, 0.6], [0.6, 0.4], bins=1) == pytest.approx(0)
    assert metrics.expected_calibration_error([0.4, 0.6], [0.6, 0.4], bins=2) == pytest.approx(0.2)
    assert metrics.expected_calibration_error([0.9, 1.0], [1.0, 0.9]) == pytest.approx(0)  # 1 is in the last bin


@pytest.mark.parametrize(("probabilities", "labels"), [([], []), ([1.1], [1.0]), ([nan], [1.0]), ([0.5], [1.0, 0.0])])
def test_calibration_rejects_what_is_no_probability(probabilities: list[float], labels: list[float]) -> None:
    with pytest.raises(ValueError, match="expected_calibration_error"):
        metrics.expected_calibration_error(probabilities, labels)


# --- shares over groups ----------------------------------------------------------------------------------------------


def test_pass_at_k_and_mean_accuracy() -> None:
    groups = [
        [scored(0, "7"), scored(1, "3"), scored(2, None), scored(3, "7")],
        [scored(0, "3"), scored(1, "4")],
        [scored(0, "7"), scored(1, "7")],
    ]
    assert metrics.pass_at_k(groups) == pytest.approx(2 / 3)
    assert metrics.mean_accuracy(groups) == pytest.approx((0.5 + 0 + 1) / 3)


def test_chain_accuracy_counts_the_known_ones() -> None:
    def with_chain(chain: bool | None) -> ScoredResponse:
        verdict = Verdict(True, "7", VerdictStatus.GRADED)
        return ScoredResponse(Response("p", 0, "x", 1, True, 1.0, 0.0), verdict, chain_correct=chain)

    groups = [[with_chain(True), with_chain(None)], [with_chain(False), with_chain(False)]]
    assert metrics.chain_accuracy(groups) == pytest.approx(1 / 3)
    assert metrics.chain_accuracy([[with_chain(None)], []]) is None


def test_reward_pass_looks_at_the_k_best() -> None:
    groups = [
        [scored(0, "7", 0.1), scored(1, "3", 0.9), scored(2, "4", 0.8)],
        [scored(0, "3", 0.7), scored(1, "7", 0.6), scored(2, "7", 0.1)],
    ]
    assert [metrics.reward_pass_at_k(groups, k) for k in (1, 2, 3)] == [0.0, 0.5, 1.0]
    assert metrics.best_of_n(groups) == 0.0


def test_balance_asks_for_many_right_ones_and_few_wrong_ones_among_the_k_best() -> None:
    groups = [
        [scored(0, "7", 0.1), scored(1, "3", 0.9), scored(2, "4", 0.8)],
        [scored(0, "3", 0.7), scored(1, "7", 0.6), scored(2, "7", 0.1)],
    ]
    assert [metrics.balance_at_k(groups, k) for k in (1, 2)] == [0.0, (0 + 1 / 2 * 1 / 2) / 2]
    assert metrics.balance_at_k(groups, 3) == pytest.approx((1 / 3 * 1 / 3 + 2 / 3 * 2 / 3) / 2)
    # One distinct response of the four that are wanted.
    assert metrics.balance_at_k([[scored(0, "7", 0.9, text="x"), scored(1, "7", 0.9, text="x")]], 4) == 0.25


def test_reward_pass_counts_copies_of_a_text_once() -> None:
    group = [scored(0, "3", 0.9, text="same"), scored(1, "3", 0.9, text="same\n"), scored(2, "7", 0.5)]
    assert metrics.reward_pass_at_k([group], 2) == 1.0


def test_reward_pass_breaks_ties_by_sample_index() -> None:
    right, wrong = scored(0, "7", 0.5), scored(1, "3", 0.5)
    assert metrics.best_of_n([[wrong, right]]) == 1.0


def test_a_reward_that_is_not_a_number_never_wins() -> None:
    group = [scored(0, "3", nan), scored(1, "7", 0.0)]
    assert metrics.best_of_n([group]) == 1.0
    assert [s.response.sample_index for s in metrics.rank_by_process_reward(group)] == [1, 0]
    assert metrics.weighted_vote_answer(group) == "7"


def test_ranking_without_a_reward_names_the_response() -> None:
    with pytest.raises(ConfigError, match="Response 1 to prompt 'p' has no process reward"):
        metrics.best_of_n([[scored(0, "7", 0.5), scored(1, "7")]])
    with pytest.raises(ConfigError, match="has no process reward"):
        metrics.weighted_vote_answer([scored(0, "7")])


@pytest.mark.parametrize(
    "metric", [metrics.pass_at_k, metrics.mean_accuracy, metrics.best_of_n, metrics.majority, metrics.weighted_vote]
)
def test_no_group_has_no_share(metric: object) -> None:
    with pytest.raises(ValueError, match="no group"):
        metric([])  # type: ignore[operator]


# --- voting ----------------------------------------------------------------------------------------------------------


def test_majority_and_weighted_vote_can_disagree() -> None:
    group = [scored(0, "3", 0.1), scored(1, "7", 0.9), scored(2, "3", 0.2), scored(3, None, 1.0), scored(4, None, 1.0)]
    assert metrics.majority_answer(group) == "3"
    assert metrics.weighted_vote_answer(group) == "7"
    assert metrics.majority([group]) == 0.0
    assert metrics.weighted_vote([group]) == 1.0


def test_many_small_rewards_outvote_one_large() -> None:
    assert metrics.weighted_vote_answer([scored(0, "7", 0.9), scored(1, "3", 0.5), scored(2, "3", 0.5)]) == "3"


def test_a_tied_vote_goes_to_the_earliest_sample() -> None:
    group = [scored(1, "3", 0.5), scored(0, "7", 0.5), scored(2, "3", 0.25), scored(3, "7", 0.25)]
    assert metrics.majority_answer(group) == "7"
    assert metrics.weighted_vote_answer(group) == "7"


def test_nobody_votes() -> None:
    silent = [scored(0, None, 0.5)]
    assert metrics.majority_answer(silent) is None
    assert metrics.weighted_vote_answer(silent) is None
    assert metrics.weighted_vote_answer([scored(0, "7", nan)]) is None
    assert metrics.majority([silent, [scored(0, "7")]]) == 0.5


# --- estimators ------------------------------------------------------------------------------------------------------


def test_bootstrap_interval_is_near_the_normal_one_and_repeats() -> None:
    values = np.arange(400.0)[:, None] % 2  # mean 0.5, standard error 0.025
    [mean], [low], [high] = metrics.bootstrap_interval([values], seed=3)
    assert (mean, low, high) == (0.5, *(pytest.approx(0.5 + s * 1.96 * 0.025, abs=0.01) for s in (-1, 1)))
    assert metrics.bootstrap_interval([values], seed=3) == ([mean], [low], [high])
    # A part counts as much as another, whatever its size.
    both, _, _ = metrics.bootstrap_interval([values, np.ones((4, 1))], seed=3)
    assert both == [0.75]


def test_variants_of_a_question_are_drawn_together() -> None:
    values = np.repeat(np.arange(40.0) % 2, 10)[:, None]  # 40 questions in 10 variants that fare alike
    _, [low], [high] = metrics.bootstrap_interval([values], seed=0, clusters=[np.repeat(np.arange(40), 10).tolist()])
    _, [narrow], [wide] = metrics.bootstrap_interval([values], seed=0)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), abs=0.05)
    assert wide - narrow < (high - low) / 2


def test_a_question_in_two_parts_is_drawn_in_both() -> None:
    values = np.arange(400.0)[:, None] % 2
    names = [list(range(400)), list(range(400))]
    # What is right in one part is wrong in the other: drawn together, their mean never moves.
    assert metrics.bootstrap_interval([values, 1 - values], seed=0, clusters=names) == ([0.5], [0.5], [0.5])
