"""What a layer keeps for the backward pass is as much as PyTorch keeps."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.memory.activations import Types, kept_by_layer
from mstar.memory.shape import ModelShape, Training, shape_of
from mstar.models.lora import LoraSettings, add_lora

SHAPES = Path(__file__).parents[2] / "benchmarks" / "shapes"
ROWS, TOKENS, HIDDEN, INNER = 2, 96, 320, 736


def small(name: str) -> Any:
    """A model's configuration with a few narrow layers of the same kind."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(SHAPES / name)
    text = config.get_text_config()
    text.hidden_size, text.intermediate_size = HIDDEN, INNER
    text.num_attention_heads, text.num_key_value_heads = 8, 2
    if getattr(text, "head_dim", None):
        text.head_dim = 64
    size = getattr(text, "head_dim", None) or HIDDEN // 8
    if "mrope_section" in text.rope_parameters:
        text.rope_parameters["mrope_section"] = [size // 8, size // 8, size // 2 - 2 * (size // 8)]
    text.vocab_size, text.pad_token_id = 1000, 0
    return config


def kept(config: Any, layers: int, autocast: bool, lora: LoraSettings | None, dtype: torch.dtype) -> int:
    """Bytes of what the language model keeps, its weights and their casts left out."""
    from transformers import AutoModel

    text = config.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:1] * layers
    model = AutoModel.from_config(text, attn_implementation="sdpa").to(dtype).train()
    if lora is not None:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        add_lora(model, lora, [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)], seed=0)
    weights = {p.data_ptr() for p in model.parameters()}
    shapes = {frozenset(p.shape) for p in model.parameters()}
    found: dict[int, int] = {}
    held = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        # Autocast's copies of weights have their shapes.
        if storage.data_ptr() not in weights and frozenset(value.shape) not in shapes:
            found[storage.data_ptr()] = storage.nbytes()
            held.append(value)
        return value

    embedded = torch.randn(ROWS, TOKENS, HIDDEN, dtype=dtype, requires_grad=lora is None)
    mask = torch.ones(ROWS, TOKENS, dtype=torch.long)
    mask[0, -5:] = 0
    context = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), context:
        model(inputs_embeds=embedded, attention_mask=mask, use_cache=False)
    return sum(found.values())


@pytest.mark.parametrize("name", ["smolvlm_256m", "qwen2_5_vl_7b", "qwen3_vl_8b"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_layer_keeps_as_much_as_pytorch_does(name: str, autocast: bool) -> None:
    config = small(name)
    real = kept(config, 3, autocast, None, torch.float32) - kept(config, 2, autocast, None, torch.float32)
    types = Types(4, 2 if autocast else 4)
    counted = kept_by_layer(shape_of(config).text, types, ROWS * TOKENS, masked=TOKENS)
    assert counted == pytest.approx(real, rel=0.03)


@pytest.mark.parametrize(
    ("autocast", "dtype"),
    [(False, torch.float32), (True, torch.float32), (False, torch.bfloat16), (True, torch.bfloat16)],
)
def test_a_layer_with_adapters_keeps_as_much_as_pytorch_does(autocast: bool, dtype: torch.dtype) -> None:
    config, lora = small("smolvlm_256m"), LoraSettings(rank=4)
    real = kept(config, 4, autocast, lora, dtype) - kept(config, 3, autocast, lora, dtype)
    shape: ModelShape = shape_of(config, Training(lora=lora))
    types = Types(dtype.itemsize, min(dtype.itemsize, 2 if autocast else 4), autocast)
    counted = kept_by_layer(shape.text, types, ROWS * TOKENS, masked=TOKENS, adapted=shape.adapted, whole=False)
    assert counted == pytest.approx(real, rel=0.1)
