"""Loading a vision-language model and its processor; what is chosen about a backbone is chosen here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from mstar.errors import ConfigError
from mstar.models.tiny import build_tiny_model, build_tiny_processor
from mstar.rendering import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["EMBEDDED_MODEL", "FreezablePart", "freeze", "language_head", "load_model", "load_renderer", "save_model"]

EMBEDDED_MODEL: Final = "mstar/tiny-idefics3"
FreezablePart = Literal["vision", "projector", "language"]

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Where the families that transformers has natively keep each part.
_PART_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "vision": ("vision_model", "vision_tower", "visual", "vision_encoder"),
    "projector": ("connector", "multi_modal_projector", "merger", "embed_vision"),
    "language": ("text_model", "language_model"),
}


# What transformers raises for names and folders that it cannot use; ImportError where a processor needs a package.
_UNUSABLE: Final = (OSError, ValueError, ImportError, SafetensorError)


def _explain_unusable(name: str, error: Exception) -> ConfigError:
    reason = next((line.strip().rstrip(".:") for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, ImportError):
        return ConfigError(f"model_name '{name}' needs a package that is not installed: {reason}.")
    where = "is a folder without a usable model" if Path(name).exists() else "is neither a folder nor a reachable model"
    return ConfigError(f"model_name '{name}' {where} ({reason}): give a Hugging Face folder or id.")


def load_model(name: str, *, dtype: str = "float32", attention: str | None = None, seed: int = 0) -> PreTrainedModel:
    """Loads a vision-language model.

    Args:
        name: A Hugging Face folder or model id, or ``mstar/tiny-idefics3`` for the embedded model with new weights.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        attention: Transformers' ``attn_implementation``; None takes the model's default (sdpa where it has it).
        seed: Seed of the embedded model's weights.

    Raises:
        ConfigError: nothing usable is at ``name``, or ``dtype`` is unknown.
    """
    from transformers import AutoModelForImageTextToText

    if dtype not in _DTYPES:
        raise ConfigError(f"dtype '{dtype}' is unknown: choose one of {', '.join(_DTYPES)}.")
    if name == EMBEDDED_MODEL:
        tiny: Any = build_tiny_model(build_tiny_processor(), seed)
        model: PreTrainedModel = tiny.to(_DTYPES[dtype])
    else:
        auto: Any = AutoModelForImageTextToText
        try:
            model = auto.from_pretrained(name, dtype=_DTYPES[dtype], attn_implementation=attention)
        except _UNUSABLE as error:
            raise _explain_unusable(name, error) from error
    return model


def load_renderer(name: str, model: nn.Module | None = None) -> Renderer:
    """Loads the processor of a model and wraps it in a renderer.

    Args:
        name: As for ``load_model``.
        model: The model, whose generation config says which tokens end a response.

    Raises:
        ConfigError: nothing usable is at ``name``.
    """
    from transformers import AutoProcessor

    if name == EMBEDDED_MODEL:
        processor: ProcessorMixin = build_tiny_processor()
    else:
        auto: Any = AutoProcessor
        try:
            processor = auto.from_pretrained(name)
        except _UNUSABLE as error:
            raise _explain_unusable(name, error) from error
    generation: Any = getattr(model, "generation_config", None)
    ends = getattr(generation, "eos_token_id", None)
    return Renderer(processor, [ends] if isinstance(ends, int) else list(ends or ()))


def save_model(model: PreTrainedModel, renderer: Renderer, folder: Path) -> None:
    """Writes an ordinary Hugging Face folder: safetensors weights, config and processor."""
    model.save_pretrained(folder)
    renderer.processor.save_pretrained(folder)


def language_head(model: nn.Module) -> nn.Module:
    """The layer that maps hidden states to logits."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(head, nn.Module):
        raise ConfigError(f"{type(model).__name__} has no output embeddings: it cannot be used as a policy.")
    return head


def freeze(model: nn.Module, parts: list[FreezablePart]) -> int:
    """Stops the training of some parts of a model.

    Args:
        model: The vision-language model.
        parts: Which parts.

    Returns:
        The number of parameters that no longer get a gradient.

    Raises:
        ConfigError: the model has no such part.
    """
    frozen = 0
    for part in parts:
        found = [m for n, m in model.named_modules() if n.rsplit(".", 1)[-1] in _PART_NAMES[part]]
        if not found:
            raise ConfigError(f"freeze: {type(model).__name__} has no part named '{part}'; remove it from 'freeze'.")
        for module in [*found, language_head(model)] if part == "language" else found:
            for parameter in module.parameters():
                frozen += parameter.numel() if parameter.requires_grad else 0
                parameter.requires_grad_(False)
    return frozen
