"""Whether an optimizer can move weights at all: a step that is small beside their spacing is rounded away.

bfloat16 has 8 significant bits: around 0.02 its values are 0.00012 apart, and a step of 1e-6 ends where it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.optim import Optimizer

from mstar.errors import ConfigError
from mstar.models.precision import name_of

_HALF: Final = (torch.bfloat16, torch.float16)
# Of all weights together, about so many are looked at.
_SAMPLED: Final = 2**20
# Others may round at random or keep what is rounded away (Kahan), and so train in 16 bits what these cannot.
_ROUNDING: Final = ("torch.optim", "bitsandbytes", "transformers")


def share_that_moves(weights: Sequence[Tensor], step: float) -> float:
    """The share of weights that one step of this size, up or down, turns into another number; of many, a sample's."""
    every = max(1, sum(weight.numel() for weight in weights) // _SAMPLED)
    moved = tried = 0
    for weight in weights:
        before = weight.detach().reshape(-1)[::every]
        up, down = ((before.float() + change).to(before.dtype) for change in (step, -step))
        moved += int(((up != before) | (down != before)).sum())
        tried += before.numel()
    return moved / max(1, tried)


def check_steps(optimizer: Optimizer, name: str = "model.lr") -> None:
    """Refuses a learning rate that cannot move most of the weights of 16 bits that it is for, and one that spoils them.

    A step of Adam and its kin is about the learning rate, whatever the gradient. Of SGD it is the rate times the
    gradient, whose entries are small against 1: what is refused here cannot be moved by it either. Held against the
    full rate, before a schedule lowers it.

    Raises:
        ConfigError: a step would leave more than half of the 16-bit weights as they are, or divide by zero.
    """
    if not type(optimizer).__module__.startswith(_ROUNDING):
        return
    for group in optimizer.param_groups:
        halves = [weight for weight in group["params"] if weight.dtype in _HALF and weight.numel()]
        if not halves:
            continue
        rate = float(group["lr"])
        share = share_that_moves(halves, rate)
        if share < 0.5:
            raise ConfigError(
                f"{name} is {rate:g}, and a step of that size is rounded away in {1 - share:.1%} of the trained "
                f"weights, which are stored in {name_of(halves[0].dtype)}: training would change next to nothing. Keep "
                "them in float32 and compute in 16 bits (model.dtype float32, trainer.precision bf16-mixed), train "
                "adapters (model.lora), or raise the rate."
            )
        eps, dtype = group.get("eps"), halves[0].dtype
        # PyTorch's moments have the weights' type: of a weight without a gradient, 0 is divided by 0.
        own = type(optimizer).__module__.startswith("torch.optim")
        if own and isinstance(eps, float) and eps > 0 and float(torch.tensor(eps, dtype=dtype)) == 0:
            raise ConfigError(
                f"the optimizer's eps is {eps:g}, which is 0 in {name_of(dtype)}, the type of the trained weights: its "
                "first step would leave weights that are no numbers. Keep them in float32 and compute in 16 bits "
                "(model.dtype float32, trainer.precision bf16-mixed or 16-mixed)."
            )
