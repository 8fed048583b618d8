"""Whether weights are finite numbers: what is not must neither be saved, exported nor sampled from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from mstar.errors import ConfigError


def find_nonfinite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor with a NaN or an infinite number; of a sharded one, this process's part counts."""
    parts = [
        (name, tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach())
        for name, tensor in tensors
        if tensor.is_floating_point()
    ]
    parts = [(name, part) for name, part in parts if part.numel()]
    # The largest entry, not the sum of squares: that could overflow where every entry is a number.
    if not parts or bool(torch.isfinite(get_total_norm([part for _, part in parts], norm_type=float("inf")))):
        return None
    return next(name for name, part in parts if not bool(torch.isfinite(part).all()))


def require_finite(tensors: Iterable[tuple[str, Tensor]], consequence: str) -> None:
    """Makes sure that weights are numbers; ``consequence`` says what cannot be done otherwise.

    Raises:
        ConfigError: they are not.
    """
    name = find_nonfinite(tensors)
    if name is not None:
        raise nonfinite_error(name, consequence)


def nonfinite_error(name: str, consequence: str) -> ConfigError:
    """The error that ``require_finite`` raises for the tensor of this name."""
    return ConfigError(
        f"the weights are not finite numbers ('{name}' is the first), so {consequence}: go on from a checkpoint of "
        "before, with a lower model.lr or trainer.gradient_clip_val, and with trainer.precision 32-true, bf16-mixed or "
        "16-mixed if they were trained in 16 bits."
    )
