"""The sampling temperature's controllers."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from mstar.errors import ConfigError
from mstar.temperature import AdaptiveTemperature, FixedTemperature, Pair, TemperatureController


def move(
    controller: TemperatureController, scores: Mapping[float, float], errors: Mapping[float, float] | None = None
) -> float:
    """A sweep of temperatures alone, with 2 responses kept of a prompt; the new temperature."""
    pairs, wrong = ({(t, 2): value for t, value in given.items()} for given in (scores, errors or {}))
    temperature, top_k = controller.update(pairs, (controller.current, 2), wrong)
    assert (top_k, controller.top_k) == (2, None)
    return temperature


def test_fixed_never_sweeps_and_never_moves() -> None:
    controller = FixedTemperature(0.7)
    assert not any(controller.due(iteration) for iteration in range(1, 10))
    assert controller.candidates == (0.7,)
    assert move(controller, {0.7: 0.1, 1.0: 0.9}) == 0.7
    assert controller.current == 0.7


def test_the_defaults_are_the_papers() -> None:
    assert AdaptiveTemperature().every == 2
    assert AdaptiveTemperature().candidates == (
        0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6,
    )  # fmt: skip


def test_the_grid_stops_below_a_maximum_that_no_step_reaches() -> None:
    assert AdaptiveTemperature(minimum=0.5, maximum=1.0, step=0.3).candidates == (0.5, 0.8)
    assert AdaptiveTemperature(minimum=0.5, maximum=0.5).candidates == (0.5,)


def test_the_grid_reaches_its_maximum_in_spite_of_rounding() -> None:
    assert (0.6 - 0.3) / 0.1 < 3
    assert AdaptiveTemperature(minimum=0.3, maximum=0.6).candidates == (0.3, 0.4, 0.5, 0.6)


@pytest.mark.parametrize(("every", "due"), [(1, [2, 3, 4, 5, 6, 7]), (2, [3, 5, 7]), (3, [4, 7])])
def test_a_sweep_is_due_after_every_n_iterations(every: int, due: list[int]) -> None:
    controller = AdaptiveTemperature(every=every)
    assert [iteration for iteration in range(1, 8) if controller.due(iteration)] == due


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({0.3: 0.5, 0.9: 0.8, 1.6: 0.7}, 0.9),
        ({0.3: 0.8, 1.2: 0.8, 1.6: 0.8}, 1.2),
        ({0.9: 0.8, 1.1: 0.8}, 0.9),
        ({1.1: 0.8, 0.9: 0.8}, 0.9),
        ({0.3: float("nan"), 0.4: 0.1}, 0.4),
    ],
    ids=["best", "tie: nearest to 1.0", "equally near: lower", "order does not matter", "nan never wins"],
)
def test_update_moves_to_the_best_score(scores: dict[float, float], chosen: float) -> None:
    controller = AdaptiveTemperature(initial=1.0)
    assert move(controller, scores) == chosen
    assert controller.current == chosen


@pytest.mark.parametrize(("margin", "chosen"), [(0.0, 1.4), (1.0, 1.4), (2.0, 1.0)])
def test_a_lead_within_its_error_moves_nothing(margin: float, chosen: float) -> None:
    controller = AdaptiveTemperature(initial=1.0, margin=margin)
    assert move(controller, {1.0: 0.5, 1.4: 0.53}, {1.0: 0.0, 1.4: 0.02}) == chosen
    # Where it is now is no candidate: nothing speaks for staying.
    assert move(AdaptiveTemperature(initial=0.7, margin=margin), {1.0: 0.5, 1.4: 0.53}) == 1.4


def test_the_criterion_names_the_metric() -> None:
    assert AdaptiveTemperature().metric == "reward_pass@2"
    assert AdaptiveTemperature(k=4, criterion="balance").metric == "balance@4"
    with pytest.raises(ConfigError, match="margin is -1"):
        AdaptiveTemperature(margin=-1)


@pytest.mark.parametrize(
    ("scores", "errors", "chosen"),
    [
        ({(1.0, 2): 0.5, (1.0, 4): 0.6, (0.7, 1): 0.55}, {}, (1.0, 4)),
        ({(1.0, 2): 0.5, (1.0, 4): 0.6, (0.7, 1): 0.7}, {}, (0.7, 1)),
        ({(1.0, 2): 0.5, (1.0, 4): 0.6}, {(1.0, 4): 0.2}, (1.0, 2)),
        ({(1.3, 2): 0.5, (0.7, 4): 0.5, (1.0, 8): 0.5, (1.0, 1): 0.5, (1.0, 4): 0.5}, {}, (1.0, 1)),
        ({(0.7, 1): 0.5, (0.7, 2): 0.5}, {}, (0.7, 2)),
        ({(0.4, 1): float("nan"), (1.3, 4): 0.1}, {}, (1.3, 4)),
    ],
    ids=[
        "top_k alone",
        "both",
        "within its error",
        "tie: nearest temperature, then lower top_k",
        "tie: nearest top_k",
        "nan never wins",
    ],
)
def test_the_temperature_and_top_k_are_chosen_together(
    scores: dict[Pair, float], errors: dict[Pair, float], chosen: Pair
) -> None:
    controller = AdaptiveTemperature(criterion="balance", top_k_candidates=[4, 1, 2])
    assert controller.top_k_candidates == (1, 2, 4)
    assert controller.top_k is None
    assert controller.update(scores, (1.0, 2), errors) == chosen
    assert (controller.current, controller.top_k) == chosen
    state = json.loads(json.dumps(controller.state_dict()))
    resumed = AdaptiveTemperature(criterion="balance", top_k_candidates=[1, 2, 4])
    resumed.load_state_dict(state)
    assert (resumed.current, resumed.top_k) == chosen
    # What earlier versions wrote before the first sweep.
    resumed.load_state_dict({"temperature": 0.9})
    assert (resumed.current, resumed.top_k) == (0.9, None)


def test_candidates_of_top_k_need_a_criterion_that_can_fall() -> None:
    with pytest.raises(ConfigError, match="criterion is reward_pass"):
        AdaptiveTemperature(top_k_candidates=[1, 2])
    with pytest.raises(ConfigError, match="the least of top_k_candidates is 0"):
        AdaptiveTemperature(criterion="balance", top_k_candidates=[0, 2])


def test_equally_near_is_not_decided_by_rounding() -> None:
    assert abs(0.9 - 0.8) < abs(0.7 - 0.8)
    assert move(AdaptiveTemperature(initial=0.8), {0.7: 1.0, 0.9: 1.0}) == 0.7


def test_ties_are_measured_from_where_the_last_sweep_ended() -> None:
    controller = AdaptiveTemperature(initial=1.0)
    move(controller, {0.4: 1.0, 1.6: 0.0})
    assert move(controller, {0.3: 0.5, 1.0: 0.5}) == 0.3


def test_a_sweep_without_any_score_is_an_error_and_changes_nothing() -> None:
    controller = AdaptiveTemperature()
    with pytest.raises(ValueError, match="no usable score"):
        move(controller, {0.3: float("nan")})
    assert controller.current == 1.0


def test_state_survives_a_checkpoint() -> None:
    before = AdaptiveTemperature()
    move(before, {0.6: 1.0})
    after = AdaptiveTemperature()
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert after.current == 0.6


def test_a_fixed_temperature_follows_the_config_and_not_the_checkpoint() -> None:
    controller = FixedTemperature(0.7)
    controller.load_state_dict(AdaptiveTemperature(initial=1.3).state_dict())
    assert controller.current == 0.7


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"initial": 0.0}, "initial is 0.0"),
        ({"minimum": -0.1}, "minimum is -0.1"),
        ({"step": float("nan")}, "step is nan"),
        ({"minimum": 1.0, "maximum": 0.9}, "maximum 0.9 is below minimum 1.0"),
        ({"every": 0}, "every is 0"),
        ({"k": 0}, "k is 0"),
    ],
)
def test_a_setting_that_cannot_work_is_named(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        AdaptiveTemperature(**arguments)  # type: ignore[arg-type]


def test_a_fixed_temperature_must_be_above_zero() -> None:
    with pytest.raises(ConfigError, match="value is 0"):
        FixedTemperature(0)
