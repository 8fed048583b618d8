"""Which part of a model is trained: all of it, without what is frozen, or adapters alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from torch import nn

from mstar.distributed import is_main
from mstar.errors import ConfigError
from mstar.models.families import FreezablePart, family_of
from mstar.models.lora import LoraSettings, add_lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_log: Final = logging.getLogger(__name__)


def freeze(model: nn.Module, parts: list[FreezablePart]) -> None:
    """Stops the training of some parts of a model."""
    for part in parts:
        for parameter in family_of(model).parameters_of(model, part):
            parameter.requires_grad_(False)


def prepare_training(
    model: PreTrainedModel,
    parts: list[FreezablePart],
    lora: LoraSettings | None = None,
    gradient_checkpointing: bool = False,
    seed: int = 0,
) -> None:
    """Chooses what of a model is trained.

    Raises:
        ConfigError: a part is not there, is both frozen and trained, or nothing is left for the adapters.
    """
    freeze(model, parts)
    if lora is not None:
        layers = adapted_layers(model, parts, lora)
        if not layers:
            raise ConfigError(
                f"model.lora.target '{lora.target}' names no layer that model.freeze leaves: freeze less."
            )
        if lora.target != "attention" and "language" not in parts:
            _tell_fused_experts(model)
        add_lora(model, lora, layers, seed, _whole_weights(model, parts, lora))
    if gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        # Only the reentrant kind needs embeddings with gradients where they are frozen. They would be leaves, and some
        # models write pictures into them in place.
        model.disable_input_require_grads()


def _tell_fused_experts(model: nn.Module) -> None:
    """Says that experts which are one parameter for all, and no linear layers, get no adapters."""
    part_of = family_of(model).part_of
    fused = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if ".experts." in name and parameter.ndim == 3 and part_of(name) == "language"
    )
    if fused and is_main():
        _log.warning(
            "model.lora: %s weights of the language model's experts are not in linear layers: they get no adapters, "
            "and keep their 16 or 32 bits.",
            f"{fused:,}",
        )


def _whole_weights(model: nn.Module, frozen: list[FreezablePart], lora: LoraSettings) -> list[str]:
    """The names of the weights that are trained beside the adapters."""
    family = family_of(model)
    names = [name for name, _ in model.named_parameters()]
    for part in lora.modules_to_save:
        if part in frozen:
            raise ConfigError(f"model.lora.modules_to_save trains the part '{part}', which model.freeze names too.")
        if not any(family.part_of(name) == part for name in names):
            raise ConfigError(f"model.lora.modules_to_save: {type(model).__name__} has no part named '{part}'.")
    return [name for name in names if family.part_of(name) in lora.modules_to_save]


def adapted_layers(model: nn.Module, frozen: list[FreezablePart], lora: LoraSettings) -> list[str]:
    """The paths of the linear layers that get adapters."""
    family = family_of(model)
    head = family.language_head(model)
    found = []
    for name, module in model.named_modules():
        part = family.part_of(name)
        if not isinstance(module, nn.Linear) or module is head or part in frozen or part in lora.modules_to_save:
            continue
        attention = any("attn" in step or "attention" in step for step in name.split("."))
        if lora.target == "all" or (part == "language" and (lora.target == "language" or attention)):
            found.append(name)
    return found
