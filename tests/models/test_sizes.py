"""Sizes by arithmetic: equal to what real models' caches and weights hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from mstar.models.sizes import (
    cache_size,
    empty_model,
    patches_per_token,
    vocabulary,
)

SIZE = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
    "pad_token_id": 0,
}  # fmt: skip
QWEN35 = {
    "num_hidden_layers": 4, "layer_types": ["linear_attention"] * 3 + ["full_attention"], "head_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 16,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"num_hidden_layers": 3}),
    "head_dim": ("Qwen3", {"num_hidden_layers": 2, "head_dim": 16}),
    "gemma3": ("Gemma3", {"num_hidden_layers": 3, "head_dim": 16, "sliding_window": 6, "layer_types": [
        "sliding_attention", "full_attention", "sliding_attention"]}),
    "gemma4": ("Gemma4", {"num_hidden_layers": 4, "head_dim": 16, "global_head_dim": 32, "sliding_window": 6,
        "num_kv_shared_layers": 1, "hidden_size_per_layer_input": 0, "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}),
    "qwen3_5": ("Qwen3_5", QWEN35),
    "lfm2": ("Lfm2", {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"], "conv_L_cache": 3}),
}  # fmt: skip


def build(name: str) -> Any:
    family, settings = MODELS[name]
    untyped: Any = transformers
    config = getattr(untyped, f"{family}TextConfig", None) or getattr(untyped, f"{family}Config")
    torch.manual_seed(0)
    return getattr(untyped, f"{family}ForCausalLM")(config(**{**SIZE, **settings})).eval()


def held(cache: Any) -> list[Tensor]:
    """Every tensor that a cache keeps of its rows."""
    tensors = []
    for layer in cache.layers:
        tensors += [getattr(layer, "keys", None), getattr(layer, "values", None)]
        for states in ("conv_states", "recurrent_states"):
            tensors += list(getattr(layer, states, {}).values())
    return [tensor for tensor in tensors if tensor is not None]


@pytest.mark.parametrize("length", [4, 11])
@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_the_cache_of_a_real_model_has_this_size(name: str, length: int) -> None:
    model = build(name)
    cache = transformers.DynamicCache(config=model.config)
    model(input_ids=torch.arange(3 * length).view(3, length) % 50, past_key_values=cache)
    size = cache_size(model.config, torch.float32)
    assert sum(tensor.nbytes for tensor in held(cache)) == 3 * size.row(length)
    assert size.new_tokens(length) >= size.row(length)


@torch.inference_mode()
def test_sixteen_bits_are_half(tiny: Any) -> None:
    config = build("gemma3").config
    half, full = cache_size(config, torch.bfloat16), cache_size(config, torch.float32)
    assert (2 * half.whole, 2 * half.row(9)) == (full.whole, full.row(9))
    assert cache_size(tiny.model.config, torch.float32).row(1) == 2 * sum(
        layer.self_attn.k_proj.out_features * 4 for layer in tiny.model.model.text_model.layers
    )


def test_a_window_keeps_no_more() -> None:
    size = cache_size(build("gemma3").config, torch.float32)
    assert size.row(1000) - size.row(999) == size.whole
    assert size.row(2) - size.row(1) == 3 * size.whole


def test_published_dimensions() -> None:
    """Qwen2.5-VL-7B: 28 layers of 4 key-value heads of 128, in 16 bits."""
    untyped: Any = transformers
    config = untyped.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
            "intermediate_size": 18944, "vocab_size": 152064,
        },
    )  # fmt: skip
    assert cache_size(config, torch.bfloat16).row(1) == 57_344
    assert vocabulary(config) == 152_064


def test_an_empty_model_has_the_weights_of_a_whole_one(split: Any, tiny: Any) -> None:
    for policy in (split, tiny):
        empty = empty_model(policy.model.config)
        assert all(p.is_meta for p in empty.parameters())
        assert {n: p.shape for n, p in empty.named_parameters()} == {
            n: p.shape for n, p in policy.model.named_parameters()
        }


def test_the_patches_that_make_a_token() -> None:
    """Gemma 3 makes 256 tokens of 64 x 64 patches; the others merge squares of them."""
    families = {"Gemma3": 16, "Gemma4": 9, "Mistral3": 4, "AyaVision": 4, "Qwen2_5_VL": 4, "Idefics3": 4, "InternVL": 4,
                "Llava": 1}  # fmt: skip
    untyped: Any = transformers
    size = {"Gemma3": {"vision_config": {"image_size": 896, "patch_size": 14}}, "Gemma4": {"vision_config": {}}}
    made = {name: patches_per_token(getattr(untyped, f"{name}Config")(**size.get(name, {}))) for name in families}
    assert made == families
