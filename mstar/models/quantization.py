"""Loading weights in 4 bits (QLoRA), by bitsandbytes."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any, Literal

import torch

from mstar.errors import MissingExtraError
from mstar.models.families import NATIVE, REMOTE


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

    untyped: Any = transformers
    towers = {part for family in (NATIVE, *REMOTE.values()) for part in family.vision | family.projector}
    config = untyped.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # Patterns of full names: vision and projector suffer most from 4 bits, and are small.
        llm_int8_skip_modules=["lm_head", "llm.lm_head", *(rf"(.*\.)?{re.escape(tower)}" for tower in sorted(towers))],
    )
    return {"quantization_config": config}
