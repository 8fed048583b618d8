"""What the samples of a prompt are worth beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mstar.errors import ConfigError
from mstar.selection import Advantages, Balance, PolicyGradient, SampleMethod
from mstar.types import Fate, Response, ScoredResponse, Verdict, VerdictStatus


def sample(
    index: int, right: bool, scores: tuple[float, ...] = (), *, finished: bool = True, answered: bool = True
) -> ScoredResponse:
    status = VerdictStatus.GRADED if answered else VerdictStatus.NO_ANSWER
    return ScoredResponse(
        Response("p", index, f"text {index}", 2, finished, 1.0, -1.0, (1, 2), (-0.5, -0.5)),
        Verdict(right, "1" if answered else None, status),
        scores,
        min(scores, default=None),
    )


def group(*right: bool) -> list[ScoredResponse]:
    return [sample(index, value) for index, value in enumerate(right)]


def values(chosen: Sequence[ScoredResponse]) -> list[float | None]:
    return [s.advantage for s in chosen]


def test_grpo_is_the_standard_score_of_the_group_and_dr_grpo_the_difference_alone() -> None:
    scored = group(True, False, False, False)
    assert values(Advantages("grpo").select(scored, stage="")) == pytest.approx([3**0.5, *[-(3**-0.5)] * 3])
    plain = Advantages("grpo", normalise=False).select(scored, stage="")
    assert values(plain) == pytest.approx([0.75, -0.25, -0.25, -0.25])
    assert {s.weight for s in plain} == {1.0}
    assert {s.fate for s in plain} == {Fate.KEPT}


@pytest.mark.parametrize(
    ("right", "normalise", "weight"), [(1, True, 3**0.5), (1, False, 0.75), (3, True, 3**-0.5), (3, False, 0.25)]
)
def test_nft_has_the_advantages_of_grpo_and_the_prompt_weight_of_its_paper(
    right: int, normalise: bool, weight: float
) -> None:
    scored = group(*(index < right for index in range(4)))
    found = Advantages("nft", normalise).select(scored, stage="")
    assert values(found) == values(Advantages("grpo", normalise).select(scored, stage=""))
    assert [s.weight for s in found] == pytest.approx([weight] * 4)


@pytest.mark.parametrize("method", ["nft", "grpo", "reinforce_rej"])
@pytest.mark.parametrize("right", [True, False])
def test_a_group_of_equal_rewards_gives_no_gradient_and_no_example(method: SampleMethod, right: bool) -> None:
    found = Advantages(method).select(group(right, right, right), stage="")
    assert [s.fate for s in found] == [Fate.NO_GRADIENT] * 3
    assert values(found) == [None] * 3


def test_reinforce_rej_is_plus_and_minus_one() -> None:
    assert values(Advantages("reinforce_rej").select(group(True, False, False), stage="")) == [1, -1, -1]


def test_responses_that_were_cut_off_are_neither_trained_on_nor_counted() -> None:
    cut = [sample(4, True, finished=False), sample(5, False, finished=False, answered=False)]
    silent = sample(6, False, answered=False)
    found = Advantages("grpo", normalise=False).select([*group(True), *cut, silent], stage="")
    assert [s.fate for s in found] == [Fate.KEPT, Fate.TRUNCATED, Fate.TRUNCATED, Fate.KEPT]
    assert values(found) == [0.5, None, None, -0.5]
    assert values(Advantages("grpo").select(cut, stage="")) == [None, None]


def test_a_response_whose_grading_ran_out_of_time_is_not_taken_for_a_wrong_one() -> None:
    slow = replace(sample(2, False), verdict=Verdict(False, "1", VerdictStatus.TIMEOUT))
    found = Advantages("grpo", normalise=False).select([*group(True, False), slow], stage="")
    assert values(found) == [0.5, -0.5, None]
    assert found[2].fate is Fate.NOT_SELECTED


def test_a_drop_between_steps_halves_a_right_answers_reward() -> None:
    scored = [sample(0, True, (0.9, 0.64)), sample(1, True, (0.9, 0.62)), sample(2, False, (0.9, 0.1))]
    found = Advantages("grpo", normalise=False, step_rewards="drop").select(scored, stage="")
    assert values(found) == [pytest.approx(0.5), None, pytest.approx(-0.5)]
    assert found[1].fate is Fate.NO_GRADIENT
    assert values(Advantages("reinforce_rej", step_rewards="drop").select(scored, stage="")) == [1, None, -1]


def test_decoupled_adds_the_process_advantage_of_right_answers_alone() -> None:
    scored = [*(sample(i, True, (score,)) for i, score in enumerate((0.9, 0.3, 0.3))), sample(3, False, (1.0,))]
    found = Advantages("grpo", step_rewards="decoupled").select(scored, stage="")
    outcome, process = 3**-0.5, 2**0.5
    expected = [outcome + process, *[outcome - process / 2] * 2, -(3**0.5)]
    assert values(found) == pytest.approx(expected, abs=1e-5)
    # Where all are right, the outcome says nothing and the process does.
    decoupled = Advantages("grpo", step_rewards="decoupled")
    assert values(decoupled.select(scored[:2], stage="")) == pytest.approx([1, -1], abs=1e-5)
    # Scores that differ by no more than rounding are one score, and hardly more is hardly one.
    for spread, expected in ((1e-6, [None, None]), (2e-5, [10 / 11, -10 / 11])):
        alike = [sample(0, True, (0.3 + spread,)), sample(1, True, (0.3,))]
        assert values(decoupled.select(alike, stage="")) == (expected if None in expected else pytest.approx(expected))


def test_consistency_keeps_half_as_even_as_can_be_of_those_that_agree_best() -> None:
    right = [sample(i, True, (score,)) for i, score in enumerate((0.2, 0.9, 0.5))]
    wrong = [sample(3 + i, False, (score,)) for i, score in enumerate((0.7, 0.1))]
    rule = Advantages("grpo", normalise=False, step_rewards="consistency")
    found = rule.select([*right, *wrong], stage="")
    assert [s.fate is Fate.KEPT for s in found] == [False, True, False, True, True]
    assert [s.fate for s in found if s.advantage is None] == [Fate.NOT_SELECTED] * 2
    assert [v for v in values(found) if v is not None] == pytest.approx([2 / 3, -1 / 3, -1 / 3])
    assert rule.scores_wrong
    assert not Advantages("grpo", step_rewards="drop").scores_wrong


# PROF-GRPO's filter_trajectories removes round((right - wrong + 4) / 2) right ones of 8, and 4 in all.
@pytest.mark.parametrize(("right", "kept"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 3), (8, 4)])
def test_consistency_keeps_as_many_right_ones_as_prof(right: int, kept: int) -> None:
    group = [sample(place, place < right, (place / 8,)) for place in range(8)]
    found = Advantages("reinforce_rej", step_rewards="consistency").select(group, stage="")
    chosen = [s for s in found if s.fate is not Fate.NOT_SELECTED]
    assert (len(chosen), sum(s.verdict.correct for s in chosen)) == (4, kept)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Advantages("nft", step_rewards="drop"), "'drop' does not go with rollout.method 'nft'"),
        (lambda: Advantages("reinforce_rej", step_rewards="decoupled"), "choose grpo, or outcome or consistency"),
        (lambda: Advantages("grpo", balance=Balance(keep_easy=1)), "keep_easy and repeat_hard are for methods"),
        (lambda: PolicyGradient(clip_low=0), r"clip_low is 0, .* \(0, 1\]"),
        (lambda: PolicyGradient(passes=0), r"passes is 0, but it must be at least 1"),
        (lambda: PolicyGradient(negative_floor=2), r"negative_floor is 2, .* \(0, 1\]"),
        (lambda: PolicyGradient(clip_high=0.3).check_used("nft"), "clip_high has no effect with rollout.method 'nft'"),
        (lambda: PolicyGradient(normalise=False).check_used("reinforce_rej"), "normalise has no effect"),
    ],
)
def test_settings_that_cannot_work(make: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make()
