"""Which prompts an iteration or an epoch takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mstar.iteration.plan import draw_mixed, iteration_indices
from mstar.prompts.base import Mixing

# 90 prompts of the first source, 10 of the second, three draws of the second for one of the first.
MIXING = Mixing(np.repeat([0, 1], [90, 10]), (1.0, 3.0))


@pytest.mark.parametrize(("interval", "count"), [(0.25, 8), (0.5, 16), (1.0, 32), (0.0625, 2), (0.001, 1)])
def test_an_interval_is_a_fraction_of_the_prompts(interval: float, count: int) -> None:
    assert len(iteration_indices(32, interval, 1, seed=0)) == count


def test_a_pass_has_every_prompt_once_and_the_next_another_order() -> None:
    order = [index for iteration in range(1, 9) for index in iteration_indices(32, 0.25, iteration, seed=0)]
    first, second = order[:32], order[32:]
    assert sorted(first) == sorted(second) == list(range(32))
    assert first != second
    assert first != sorted(first)


def test_the_order_depends_on_seed_and_stage() -> None:
    orders = [iteration_indices(32, 1.0, 1, seed, stage) for seed in (0, 1) for stage in ("labelled", "unlabelled")]
    assert len({tuple(order) for order in orders}) == 4


def test_no_prompt_is_twice_in_an_iteration_that_holds_two_passes() -> None:
    for iteration in range(1, 50):
        chosen = iteration_indices(10, 0.7, iteration, seed=0)
        assert len(set(chosen)) == len(chosen) <= 7


def test_sources_are_drawn_by_weight_and_each_goes_on_where_it_stopped() -> None:
    order = [index for epoch in range(18) for index in draw_mixed(MIXING, 20, epoch, 0, "rationales")]
    counts = Counter(order)
    # 18 times 5 of the 90, 18 times 15 of the 10: every prompt of a source as often as the others.
    assert {counts[index] for index in range(90)} == {1}
    assert {counts[index] for index in range(90, 100)} == {27}


def test_an_iteration_takes_a_prompt_once_and_a_small_source_whole() -> None:
    chosen = iteration_indices(100, 0.2, 1, 0, mixing=MIXING)
    assert len(set(chosen)) == len(chosen)
    assert sum(index < 90 for index in chosen) == 5
    assert set(range(90, 100)) <= set(chosen)


def test_what_is_drawn_follows_from_seed_stage_and_number() -> None:
    drawn = {
        tuple(draw_mixed(MIXING, 20, *key)) for key in [(0, 0, "a"), (0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    }
    assert len(drawn) == 4


def test_a_source_of_which_nothing_is_left_gets_no_draws() -> None:
    assert MIXING.select(np.arange(90)).counts(20) == [20, 0]
    assert Mixing(np.array([0, 1, 2]), (1.0, 1.0, 1.0)).counts(7) == [3, 2, 2]
