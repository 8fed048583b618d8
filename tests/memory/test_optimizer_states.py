"""What optimizers keep, by their classes."""

from __future__ import annotations

import pytest

from mstar.memory.optimizer_states import OptimizerCost, cost_of


@pytest.mark.parametrize(
    ("class_path", "cost"),
    [
        ("torch.optim.AdamW", OptimizerCost(2.0, copies=1.0)),
        ("bitsandbytes.optim.AdamW", OptimizerCost(0.0, fixed=8.0)),
        ("bitsandbytes.optim.PagedAdamW", OptimizerCost(0.0, fixed=8.0)),
        ("bitsandbytes.optim.PagedAdamW8bit", OptimizerCost(0.0, fixed=2.03)),
        ("bitsandbytes.optim.Lion", OptimizerCost(0.0, fixed=8.0, known=False)),
    ],
)
def test_optimizers_of_one_name_differ_by_their_package(class_path: str, cost: OptimizerCost) -> None:
    assert cost_of(class_path) == cost


def test_the_states_of_bitsandbytes_in_32_bits_are_float32_whatever_the_weights_are() -> None:
    import torch

    bitsandbytes = pytest.importorskip("bitsandbytes")
    weight = torch.nn.Parameter(torch.ones(8192, dtype=torch.bfloat16))
    optimizer = bitsandbytes.optim.AdamW([weight])
    optimizer.init_state(optimizer.param_groups[0], weight, 0, 0)
    states = [value for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor)]
    assert sum(value.nbytes for value in states) == 8192 * cost_of("bitsandbytes.optim.AdamW").fixed
