"""When a run is told that it is past its best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from mstar.callbacks.peak import find_fall


def report(iteration: int, accuracy: float, chains: float | None, **more: Any) -> dict[str, Any]:
    """What an iteration of 125 prompts, each with 8 responses, says."""
    return {
        "iteration": iteration, "temperature": 1.0, "prompts": 125, "all_wrong_fraction": 0.0,
        "funnel": {"generated": 1000, "correct": round(1000 * accuracy)}, "right_chain_accuracy": chains,
    } | more  # fmt: skip


def follow(reports: Iterable[dict[str, Any]]) -> Iterator[str | None]:
    """What is said after each of them."""
    all_reports = list(reports)
    return (find_fall(all_reports[:number]) for number in range(1, len(all_reports) + 1))


def test_chains_that_rise_and_then_fall_are_told() -> None:
    series = [0.68] * 4 + [0.97] * 4 + [0.88] * 8
    found = list(follow(report(i, 0.98, chains) for i, chains in enumerate(series, 1)))
    # Four iterations are the 500 prompts of a block; what a full block says holds until the next one is full.
    assert found[:11] == [None] * 11
    assert found[11] is not None
    assert "88.0% of the right responses are right throughout, and 97.0% were in iterations 5 to 8" in found[11]
    assert "of the responses are right," not in found[11]
    assert found[11] == found[15]


def test_a_recovered_run_is_no_longer_fallen() -> None:
    series = [0.9] * 4 + [0.6] * 4 + [0.9] * 4
    found = list(follow(report(i, accuracy, None) for i, accuracy in enumerate(series, 1)))
    assert found[7] is not None
    assert "60.0% of the responses are right, and 90.0% were in iterations 1 to 4" in found[7]
    assert found[11] is None


@pytest.mark.parametrize(
    ("series", "prompts"),
    [
        ([0.97, 0.93], 100_000),  # 40 standard errors, but less than 5 points
        ([0.97, 0.91], 500),  # 6 points, but 4.04 standard errors
        ([0.97, 0.5], 249),  # not yet 500 prompts
        ([0.0, 0.0], 500),
    ],
)
def test_little_is_no_fall(series: list[float], prompts: int) -> None:
    assert set(follow(report(i, share, None, prompts=prompts) for i, share in enumerate(series, 1))) == {None}


def test_another_temperature_begins_anew() -> None:
    series = [(0.9, 1.0)] * 4 + [(0.5, 1.3)] * 4
    found = follow(report(i, share, None, temperature=t) for i, (share, t) in enumerate(series, 1))
    assert set(found) == {None}


def test_noise_is_no_fall() -> None:
    """Prompts whose eight responses are all alike, which makes the most noise: 5 runs of 200 full blocks."""
    random = np.random.default_rng(0)
    for share in np.linspace(0.05, 0.95, 5):
        drawn = random.binomial(500, share, 200) / 500
        assert set(follow(report(i, s, s, prompts=500) for i, s in enumerate(drawn.tolist(), 1))) == {None}


def test_iterations_without_right_answers_leave_chains_known() -> None:
    series = [(0.9, 0.95)] * 4 + [(0.0, None)] + [(0.9, 0.6)] * 3
    found = list(follow(report(i, share, chains) for i, (share, chains) in enumerate(series, 1)))
    assert found[7] is not None
    assert "60.0% of the right responses are right throughout, and 95.0% were" in found[7]
