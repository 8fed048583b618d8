"""The statistics of the comparison's verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from mstar.demo.verdicts import Claim, Difference, compare, judge
from mstar.errors import DataError


def test_differences_are_paired_by_seed_and_question() -> None:
    first = {0: {"a": True, "b": True}, 1: {"b": True, "a": True}, 7: {"a": False, "b": False}}
    second = {1: {"a": True, "b": False}, 0: {"a": False, "b": True}}
    found = compare(first, second)
    assert found is not None
    assert found.by_seed == {0: 0.5, 1: 0.5}
    assert found.mean == 0.5


def test_seeds_that_agree_by_chance_leave_the_interval_of_the_questions() -> None:
    # Both seeds differ by 0.5 in the mean. Of the questions' means 0, 0.5, 0.5, 1 the variance is 1 / 6.
    first = {0: {"a": True, "b": True, "c": False, "d": False}, 1: {"a": True, "b": False, "c": True, "d": False}}
    found = compare(first, dict.fromkeys(first, dict.fromkeys("abcd", False)))
    assert found is not None
    assert (found.mean, found.half) == (0.5, pytest.approx(1.96 * (1 / 6) ** 0.5 / 2))


def test_with_one_seed_the_interval_is_that_of_the_questions() -> None:
    found = compare({0: dict.fromkeys("abcd", True)}, {0: {"a": True, "b": True, "c": False, "d": False}})
    assert found is not None
    # Differences 0, 0, 1, 1: standard deviation 0.5774, over the root of 4 questions.
    assert (found.mean, found.half) == (0.5, pytest.approx(1.96 * 0.57735 / 2))
    assert judge(Claim("a", "b", ""), found) == "open"


def test_the_interval_covers_new_seeds_and_new_questions() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        seeds, questions = rng.normal(0, 0.5, (4, 1)), rng.normal(0, 0.8, (1, 60))
        chance = 1 / (1 + np.exp(-(seeds + questions)))
        draws = rng.random((2, 4, 60)) < np.stack([chance, np.full_like(chance, 0.5)])
        first, second = (
            {seed: {str(q): bool(right) for q, right in enumerate(row)} for seed, row in enumerate(arm)}
            for arm in draws
        )
        found = compare(first, second)
        assert found is not None
        covered += found.low <= 0 <= found.high
    # The expected difference is 0; of 200 intervals 190 should hold it, with a standard deviation of 3.
    assert 180 <= covered <= 200


def test_other_questions_are_an_error() -> None:
    with pytest.raises(DataError, match="different questions"):
        compare({0: {"a": True}}, {0: {"b": True}})
    assert compare({0: {"a": True}}, {1: {"a": True}}) is None


@pytest.mark.parametrize(
    ("within", "mean", "half", "verdict"),
    [
        (None, 0.05, 0.04, "holds"),
        (None, 0.05, 0.06, "open"),
        (None, -0.05, 0.04, "fails"),
        (0.03, 0.01, 0.015, "holds"),
        (0.03, 0.01, 0.03, "open"),
        (0.03, -0.08, 0.04, "fails"),
    ],
)
def test_the_verdict_goes_by_the_whole_interval(within: float | None, mean: float, half: float, verdict: str) -> None:
    assert judge(Claim("a", "b", "", within=within), Difference(mean, half, {0: mean, 1: mean})) == verdict


def test_nothing_measured_is_said_so() -> None:
    assert judge(Claim("a", "b", ""), None) == "not measured"
