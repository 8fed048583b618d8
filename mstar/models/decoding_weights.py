"""The weights in the form that decoding wants them in, for as long as it takes.

A token reads every weight once and computes little with it, so what is done to a weight for every token costs as much
as the token itself: a separate product for its adapter, and under autocast a conversion of the weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mstar.models.families import family_of

AdapterUse = Literal["merged", "apart"]


@contextmanager
def decoding_weights(model: nn.Module, adapters: AdapterUse) -> Iterator[None]:
    """Within it the language model's linear layers hold weights to decode with; afterwards their own, bit for bit.

    Adapters are folded into copies of the weights (``merged``), rounded as an export rounds them. Under autocast,
    weights in float32 are replaced by copies in the type that they would be converted to for every token; what is
    computed is the same to the last bit. The weights themselves are not touched, so that nothing has to be undone by
    arithmetic: a copy takes 2 bytes a weight of these layers in 16 bits, on the device, while this lasts. Where neither
    applies, nothing happens.

    Args:
        model: The model; sharded weights must be whole. It must not be trained, saved or given new weights meanwhile.
        adapters: Whether adapters are merged. Those of weights in 4 bits always stay apart.
    """
    with ExitStack() as undo:
        with torch.no_grad():
            for parent, name, layer in _adapted(model) if adapters == "merged" else ():
                merged = _merged(layer)
                if merged is not None:
                    _replace(undo, layer.base_layer._parameters, "weight", merged)
                    _replace(undo, parent._modules, name, layer.base_layer)
            copies: dict[int, nn.Parameter] = {}
            for linear in _converted(model):
                for name, parameter in list(linear._parameters.items()):
                    if parameter is not None and _decoding_type(parameter) != parameter.dtype:
                        if id(parameter) not in copies:
                            copy = parameter.to(_decoding_type(parameter))
                            copies[id(parameter)] = nn.Parameter(copy, requires_grad=False)
                        _replace(undo, linear._parameters, name, copies[id(parameter)])
        yield


def _decoding_type(weight: Tensor) -> torch.dtype:
    """The type in which a linear layer's weight is used: its own, or that of autocast."""
    device = weight.device.type
    converted = weight.dtype == torch.float32 and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if converted else weight.dtype


def _adapted(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """The layers with adapters, each with its parent and its name there."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if hasattr(child, "lora_A")
    ]


def _merged(layer: Any) -> nn.Parameter | None:
    """The weight of a layer with its adapter folded in; None where it has 4 bits."""
    weight: Tensor = layer.base_layer.weight
    if not weight.is_floating_point():
        return None
    (name,) = layer.lora_A
    down, up = layer.lora_A[name].weight.float(), layer.lora_B[name].weight.float()
    # Rounded by autocast, the product would be another one than an export's.
    with torch.autocast(weight.device.type, enabled=False):
        merged = (weight.float() + layer.scaling[name] * (up @ down)).to(_decoding_type(weight))
    return nn.Parameter(merged, requires_grad=False)


def _converted(model: nn.Module) -> list[nn.Linear]:
    """The linear layers that autocast, if it is on, converts for every token; the vision tower computes once."""
    if not torch.is_autocast_enabled(next(model.parameters()).device.type):
        return []
    family = family_of(model)
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and family.part_of(name) == "language"
    ]


def _replace(undo: ExitStack, holder: dict[str, Any], name: str, value: Any) -> None:
    """Puts a value in place of another, which comes back with ``undo``."""
    undo.callback(holder.__setitem__, name, holder[name])
    holder[name] = value
