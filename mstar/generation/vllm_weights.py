"""The policy as vLLM takes it: its weights under the names of a checkpoint, and a folder of all the rest."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from mstar.generation.vllm_families import find_query_scaling
from mstar.models.lora import merged_state
from mstar.models.sharding import full_state
from mstar.rendering import Renderer

# Transformers 5 has taken a level out of their names.
_WRAPPED_TOWERS: Final = ("clip_vision_model", "siglip_vision_model")


def trains_base_weights(policy: nn.Module) -> bool:
    """Whether anything but adapters is trained."""
    return any(p.requires_grad and ".lora_" not in name for name, p in policy.named_parameters())


def checkpoint_weights(
    policy: nn.Module, *, merge: bool = True, dtype: torch.dtype | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Every weight with its name, whole, one after another. Collective for a sharded policy.

    Weights in 4 bits come unpacked, as the policy computes with them; an export has those of its ``model_name``.
    A language head that is tied to the input embeddings comes under its own name too: vLLM holds a head of its own, and
    would otherwise keep the old one without an error. Towers of CLIP and SigLIP have the names that vLLM 0.32 knows.

    Args:
        merge: Whether adapters are folded in, or left out.
        dtype: The type that whoever takes them stores them in, so that sums with adapters are rounded to that alone;
            the weights themselves come as they are.
    """
    tower: Any = getattr(getattr(policy, "config", None), "vision_config", None)
    wrapped = getattr(tower, "model_type", "") in _WRAPPED_TOWERS
    for _, entries in groupby(full_state(policy), key=lambda entry: _layer(entry[0])):
        group = dict(entries)
        adapted = any(".lora_" in name for name in group)
        if adapted and not merge:
            group = {n: torch.zeros_like(value) if ".lora_B." in n else value for n, value in group.items()}
        if adapted or any(not value.is_floating_point() for value in group.values()):
            group = merged_state(policy, group, dtype=dtype)
        for name, value in group.items():
            yield name.replace(".vision_tower.", ".vision_tower.vision_model.", 1) if wrapped else name, value


def _layer(name: str) -> str:
    """The path of the layer that a weight and its adapters belong to."""
    return name.partition(".base_layer.")[0].partition(".lora_")[0].removesuffix(".weight").removesuffix(".bias")


def write_description(policy: Any, renderer: Renderer, folder: Path) -> str:
    """Writes all of a model but its weights.

    Returns:
        The folder.
    """
    config = deepcopy(policy.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # vLLM gets the weights unpacked
    if (scaling := find_query_scaling(config)) is not None:
        scaled = {"original_max_position_embeddings": scaling[0], "beta": scaling[1]}
        config.get_text_config().llama_4_scaling = scaled
    # FSDP2 puts the model's own class behind one of its own.
    own_class = type(policy).__bases__[-1] if isinstance(policy, FSDPModule) else type(policy)
    config.architectures = config.architectures or [own_class.__name__]
    config.save_pretrained(folder)
    renderer.processor.save_pretrained(folder)
    return str(folder)
