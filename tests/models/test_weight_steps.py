"""Steps that are rounded away in 16 bits, counted by hand and held against real optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mstar.errors import ConfigError
from mstar.models.weight_steps import check_steps, share_that_moves


@pytest.mark.parametrize(
    ("dtype", "value", "step", "moves"),
    [
        # Around 1, bfloat16 has 1 - 1/256 below and 1 + 1/128 above.
        (torch.bfloat16, 1.0, 1 / 256, True),
        (torch.bfloat16, 1.0, 1 / 600, False),
        (torch.bfloat16, 0.02, 1e-6, False),
        (torch.bfloat16, 0.0, 1e-6, True),
        (torch.bfloat16, 1e-5, 1e-6, True),
        (torch.float16, 0.02, 1e-6, False),
        (torch.float16, 0.02, 1e-5, True),
        (torch.float32, 0.02, 1e-6, True),
    ],
)
def test_what_a_step_moves(dtype: torch.dtype, value: float, step: float, moves: bool) -> None:
    assert share_that_moves([torch.full((3, 5), value, dtype=dtype)], step) == float(moves)


def test_of_many_weights_each_tensor_counts_by_its_size() -> None:
    small, large = torch.zeros(2**20).bfloat16(), torch.ones(3 * 2**20).bfloat16()
    assert share_that_moves([small, large], 1e-6) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
@pytest.mark.parametrize("lr", [1e-6, 1e-5, 1e-3])
def test_what_is_refused_trains_nothing(name: str, lr: float) -> None:
    """Eight real steps on weights of a usual size: where few of them change, the rate was refused."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 64, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    layer = layer.bfloat16()
    before = layer.weight.detach().clone()
    made: Any = getattr(torch.optim, name)
    optimizer = made(layer.parameters(), lr=lr)
    refused = False
    try:
        check_steps(optimizer)
    except ConfigError:
        refused = True
    for _ in range(8):
        layer.weight.grad = torch.randn_like(layer.weight) / 64
        optimizer.step()
    changed = float((layer.weight != before).float().mean())
    assert refused == (lr < 1e-4)
    assert not refused or changed < 0.5
    if name == "AdamW":
        assert refused or changed > 0.5


def test_the_reason_is_given_in_figures() -> None:
    weight = nn.Parameter(torch.ones(100).bfloat16())
    sentence = r"^refresh\.lr is 1e-06, .* rounded away in 100\.0% of the trained weights, .* in bfloat16: .*bf16-mixed"
    with pytest.raises(ConfigError, match=sentence):
        check_steps(torch.optim.AdamW([weight], lr=1e-6), "refresh.lr")


def test_each_group_has_its_own_rate_and_32_bits_need_no_look() -> None:
    half, full = nn.Parameter(torch.ones(4).bfloat16()), nn.Parameter(torch.ones(4))
    check_steps(torch.optim.AdamW([{"params": [half], "lr": 1e-2}, {"params": [full], "lr": 1e-9}]))
    with pytest.raises(ConfigError):
        check_steps(torch.optim.AdamW([{"params": [half], "lr": 1e-5}, {"params": [full], "lr": 1e-2}]))


def test_an_optimizer_that_rounds_in_its_own_way_is_let_be() -> None:
    class Kahan(torch.optim.SGD):
        """One that keeps what is rounded away."""

    Kahan.__module__ = "optimi.adamw"
    check_steps(Kahan([nn.Parameter(torch.ones(4).bfloat16())], lr=1e-6))
