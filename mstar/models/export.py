"""A model as an ordinary Hugging Face folder, which Transformers and vLLM load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from mstar.errors import ConfigError
from mstar.models.finite import find_nonfinite
from mstar.models.lora import cast_state, has_lora, merged_state, plain_shell
from mstar.rendering import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

# What an image processor's settings call the library that it computes with.
SAVED_BACKEND: Final = "image_backend"


def save_model(
    model: PreTrainedModel,
    renderer: Renderer,
    folder: Path,
    *,
    state: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes an ordinary Hugging Face folder: safetensors weights, config and processor.

    Adapters are folded into the weights, and weights in 4 bits are unpacked; the model itself stays as it is.

    Args:
        state: The model's state, if not that which it holds (whole tensors of a sharded model).

    Raises:
        ConfigError: a weight is beyond the range of the type.
    """
    untyped: Any = model
    changed = has_lora(model) or getattr(untyped, "is_quantized", False) or dtype not in (None, untyped.dtype)
    if state is None and not changed:
        untyped.save_pretrained(folder)
    else:
        merged = cast_state(merged_state(model, state), dtype)
        beyond = find_nonfinite(merged.items())
        if beyond is not None:
            raise ConfigError(
                f"the weights are not all finite numbers in the type of the export ('{beyond}' is the first): choose "
                "float32 or bfloat16, which have the larger range."
            )
        plain_shell(model, dtype).save_pretrained(folder, state_dict=merged)
    _save_processor(renderer.processor, folder)
    # Safetensors makes files that their owner alone can read.
    for weights in folder.glob("*.safetensors"):
        weights.chmod(folder.stat().st_mode & 0o666)


def _save_processor(processor: ProcessorMixin, folder: Path) -> None:
    images: Any = getattr(processor, "image_processor", None)
    # The class's name, which Transformers saves, is without it.
    if hasattr(images, "backend"):
        setattr(images, SAVED_BACKEND, images.backend)
    processor.save_pretrained(folder)
