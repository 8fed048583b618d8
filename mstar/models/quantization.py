"""Loading weights in 4 bits (QLoRA), by bitsandbytes."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any, Final, Literal

import torch
from torch import Tensor

from mstar.errors import ConfigError, MissingExtraError
from mstar.models.families import NATIVE, REMOTE

# The share of 4-bit weights that may be others than are made again, as another device may round some.
_ROUNDED: Final = 0.01


def quantization_settings(kind: Literal["none", "nf4"], dtype: torch.dtype) -> dict[str, Any]:
    """What Transformers is told so that it loads a language model's linear layers in 4 bits that compute in ``dtype``.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    if kind == "none":
        return {}
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "qlora", f"quantization '{kind}'")
    import transformers

    towers = {part for family in (NATIVE, *REMOTE.values()) for part in family.vision | family.projector}
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # Patterns of full names: vision and projector suffer most from 4 bits, and are small.
        llm_int8_skip_modules=["lm_head", "llm.lm_head", *(rf"(.*\.)?{re.escape(tower)}" for tower in sorted(towers))],
    )
    return {"quantization_config": config}


def require_origin(module: Any, name: str, origin: Tensor) -> Tensor:
    """The weights that a layer's 4-bit weights were made from, proved by making them again.

    Raises:
        ConfigError: they were made from others.
    """
    from bitsandbytes.functional import quantize_4bit

    held = module.weight
    made = held.quant_state
    if origin.shape == made.shape:
        packed, _ = quantize_4bit(origin.to(held.device), blocksize=made.blocksize, quant_type=made.quant_type)
        if (packed != held).float().mean() <= _ROUNDED:
            return origin
    raise ConfigError(
        f"model_name has other weights by now than those that were loaded in 4 bits ('{name}' is the first), so the "
        "adapters cannot be folded into them: put those back, and export the last checkpoint (mstar export)."
    )
