"""Models with adapters that compute something."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from mstar.models.lora import LoraSettings
from mstar.models.trained_part import prepare_training
from mstar.prompts import TinyDice

PROMPTS = list(TinyDice("seed", 4))


def adapted(policy: Any, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """A copy of a policy's model with adapters that compute something."""
    model = copy.deepcopy(policy.model).to(dtype)
    prepare_training(model, [], LoraSettings(rank=4, **settings), seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1, generator=generator)
    return model.eval()


def logits(model: Any, renderer: Any) -> Tensor:
    inputs = renderer.prompt_inputs(PROMPTS)
    with torch.inference_mode():
        result: Tensor = model(input_ids=inputs.ids_BT, attention_mask=inputs.mask_BT, **inputs.extras).logits
    return result
