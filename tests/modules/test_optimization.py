"""The learning-rate schedule by hand, and what the optimizer is built from."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.cli import ReduceLROnPlateau
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from transformers.optimization import Adafactor

from mstar.errors import ConfigError
from mstar.modules.optimization import WarmupSchedule, configure


def rates(steps: int, **settings: Any) -> list[float]:
    """The learning rate of each of the first optimizer steps, for a full rate of 1."""
    optimizer = torch.optim.SGD([Parameter(torch.zeros(1))], lr=1.0)
    schedule = WarmupSchedule(optimizer, **settings)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1, 1, 1, 1]),
        ({"warmup_steps": 4}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"warmup_steps": 2, "drop_at": 4}, [0.5, 1, 1, 1, 0.5, 0.5]),
        ({"drop_at": 1, "drop_factor": 0.1}, [1, 0.1, 0.1]),
        ({"drop_at": 0, "drop_factor": 0.0}, [0, 0]),
        ({"warmup_steps": 2, "decay_until": 6}, [0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0]),
        ({"decay_until": 4, "drop_at": 2}, [1, 0.75, 0.25, 0.125, 0, 0]),
    ],
)
def test_the_schedule_by_hand(settings: dict[str, Any], expected: list[float]) -> None:
    assert rates(len(expected), **settings) == pytest.approx(expected)


def test_a_schedule_goes_on_from_its_state() -> None:
    def make() -> tuple[torch.optim.Optimizer, WarmupSchedule]:
        optimizer = torch.optim.SGD([Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, WarmupSchedule(optimizer, warmup_steps=10)

    optimizer, schedule = make()
    for _ in range(4):
        optimizer.step()
        schedule.step()
    other, resumed = make()
    other.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    other.step()
    resumed.step()
    assert other.param_groups[0]["lr"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_steps": -1}, "warmup_steps is -1, but it must be at least 0"),
        ({"warmup_steps": 5, "decay_until": 5}, "decay_until is 5, but the warm-up alone takes 5 steps; raise"),
    ],
)
def test_schedules_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rates(1, **settings)


def test_frozen_parameters_are_left_out() -> None:
    frozen, free = Parameter(torch.zeros(2), requires_grad=False), Parameter(torch.zeros(3))
    made: Any = configure([frozen, free], 0.1, partial(torch.optim.SGD, lr=9.0, momentum=0.5), None)
    (group,) = made.param_groups
    assert group["params"] == [free]
    assert (group["lr"], group["momentum"]) == (0.1, 0.5)


def test_the_schedule_counts_optimizer_steps() -> None:
    made: Any = configure([Parameter(torch.zeros(1))], 0.1, torch.optim.AdamW, partial(WarmupSchedule, warmup_steps=2))
    assert made["lr_scheduler"]["interval"] == "step"
    assert made["lr_scheduler"]["scheduler"].optimizer is made["optimizer"]
    assert made["optimizer"].param_groups[0]["lr"] == pytest.approx(0.05)


def test_nothing_to_train() -> None:
    with pytest.raises(ConfigError, match="every parameter of the model is frozen"):
        configure([Parameter(torch.zeros(1), requires_grad=False)], 0.1, torch.optim.AdamW, None)


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_not_positive(lr: float) -> None:
    with pytest.raises(ConfigError, match=r"model.lr is .*, but a learning rate must be positive"):
        configure([Parameter(torch.zeros(1))], lr, torch.optim.AdamW, None)


def test_a_schedule_that_looks_at_a_metric_says_which() -> None:
    weights = [Parameter(torch.zeros(1))]
    made: Any = configure(weights, 0.1, torch.optim.SGD, partial(ReduceLROnPlateau, monitor="train/loss"))
    assert made["lr_scheduler"]["monitor"] == "train/loss"
    assert made["lr_scheduler"]["interval"] == "epoch"
    with pytest.raises(
        ConfigError, match=r"choose lightning\.pytorch\.cli\.ReduceLROnPlateau, and give its monitor: train/loss"
    ):
        configure(weights, 0.1, torch.optim.SGD, torch.optim.lr_scheduler.ReduceLROnPlateau)


def test_an_optimizer_that_takes_no_rate_is_refused_in_a_sentence() -> None:
    # Transformers' own needs relative_step=False before it takes a rate.
    with pytest.raises(
        ConfigError, match=r"refuses its settings, model\.lr 0\.1 among them: Cannot combine manual `lr`"
    ):
        configure([Parameter(torch.zeros(1))], 0.1, Adafactor, None)


class _Cosine(LambdaLR):
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.total_steps = 1
        super().__init__(optimizer, lambda step: max(0.0, math.cos(step)))


@pytest.mark.parametrize(
    ("limit", "known", "mend"),
    [(3, None, ""), (-1, 3, ""), (-1, 4, "set it to 4, the"), (4, 4, "set it to 4"), (-1, math.inf, "set trainer.")],
)
def test_a_schedule_of_so_many_steps_needs_a_fit_of_no_more(limit: int, known: float | None, mend: str) -> None:
    weights, schedule = [Parameter(torch.zeros(1))], partial(OneCycleLR, max_lr=0.1, total_steps=3)
    trainer: Any = SimpleNamespace(max_steps=limit, estimated_stepping_batches=known)
    refused = pytest.raises(ConfigError, match=f"OneCycleLR has total_steps 3, and none after them: {mend}")
    with refused if mend else nullcontext():
        configure(weights, 0.1, torch.optim.SGD, schedule, trainer=trainer)
    # One of one's own may stay as it is behind its last step.
    configure(weights, 0.1, torch.optim.SGD, _Cosine, trainer=trainer)
