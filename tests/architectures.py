"""Tiny models of every architecture that transformers' AutoModelForImageTextToText knows, made from its config class.

The sizes of the default configuration are shrunk by name; what does not follow from that is in ``PATCHES``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mstar.models.families import family_of
from mstar.models.packing import packed_hidden_states
from mstar.models.prefix import encode_prefix, extend, logits_of
from mstar.models.token_loss import token_losses
from mstar.rendering import IGNORE_INDEX
from mstar.types import Prompt

VOCABULARY = 640

# What is small, by the name that configurations give it.
_SIZES: dict[str, Any] = {
    "hidden_size": 64, "embed_dim": 64, "d_model": 64, "out_hidden_size": 64, "text_hidden_size": 64,
    "intermediate_size": 96, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "projector_hidden_size": 64,
    "num_attention_heads": 4, "num_heads": 4, "num_key_value_heads": 2, "attention_heads": 4, "head_dim": 16,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "depth": 2, "num_layers": 2, "encoder_layers": 2, "decoder_layers": 2, "num_global_layers": 2,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_k": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "dense_intermediate_size": 96,
    "shared_intermediate_size": 32, "share_expert_dim": 32,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_head_dim": 16, "linear_num_heads": 4,
    "vocab_size": VOCABULARY, "max_position_embeddings": 512, "initializer_range": 0.2,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip

_MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
# In place of towers that only the package timm has: what is checked of their models is text.
_SIGLIP = {"model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
           "num_attention_heads": 4, "image_size": 32, "patch_size": 8}  # fmt: skip
_MLA = {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "kv_lora_rank": 16, "q_lora_rank": 16,
        "num_key_value_heads": 4, "qk_head_dim": 16, "head_dim": 8}  # fmt: skip
_GEMMA = {
    "per_layer_config": None, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64,
    "final_logit_softcapping": 2.0, "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": VOCABULARY,
}  # fmt: skip
_GEMMA4 = {
    "text_config": _GEMMA,
    "vision_config": {"model_type": "gemma4_vision", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
                      "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "global_head_dim": 16},
}  # fmt: skip

# Per architecture: values that replace shrunk ones, in the shape of the configuration; None removes an entry.
PATCHES: dict[str, dict[str, Any]] = {
    "chameleon": {"vocabulary_map": {"<image>": 5, "IMGIMGBBZ": 6, "IMGIMGCBZ": 7}},
    "cohere_compass": {
        "text_config": {"logit_scale": 0.25, "rope_parameters": {"full_attention": _MROPE}},
        "vision_config": {"deepstack_visual_indexes": [0]},
    },
    "cosmos3_edge": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": [2, 3, 3]}}},
    "emu3": {"vocabulary_map": {"<image>": 5}, "vq_config": {"base_channels": 32, "codebook_size": 64}},
    "ernie4_5_vl_moe": {
        "text_config": {
            "moe_intermediate_size": [32, 32], "mlp_layer_types": ["dense", "sparse"],
            "rope_parameters": {**_ROPE, "mrope_section": [3, 3, 2]},
        },
    },
    "deepseek_ocr2": {"text_config": {"num_experts_per_tok": 2, "mlp_layer_types": ["dense", "sparse"]}},
    "fast_vlm": {"vision_config": _SIGLIP},
    "perception_lm": {"vision_config": _SIGLIP},
    "gemma3n": {
        "vision_config": _SIGLIP,
        "text_config": {
            **_GEMMA, "intermediate_size": [96] * 4, "activation_sparsity_pattern": [0.0] * 4,
            "num_kv_shared_layers": 2, "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2, "laurel_rank": 8,
        },
    },
    "gemma4": _GEMMA4,
    "gemma4_unified": {"text_config": _GEMMA},
    "glm5_next": {
        "text_config": {
            "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16, "v_head_dim": 16, "qk_nope_head_dim": 16,
            "mlp_layer_types": ["dense", "sparse"], "indexer_types": ["full", "full"], "head_dim": 0, "qk_head_dim": 16,
            "index_head_dim": 16, "index_n_heads": 2, "index_topk": 64,
        },
    },
    **{
        name: {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": [1, 2, 1], "partial_rotary_factor": 0.5}}}
        for name in ("glm46v", "glm4v", "glm4v_moe", "glm_ocr", "glmga")
    },
    "granite4_vision": {
        "text_config": {
            "model_type": "granite", "logits_scaling": 8.0, "attention_multiplier": 0.25, "embedding_multiplier": 2.0,
            "residual_multiplier": 0.5,
        },
        "downsample_rate": "1/2", "deepstack_layer_map": [[0, 0]], "spatial_target_layers": [0],
        "qformer_config": {"encoder_hidden_size": 64},
    },
    "hyperclovax_vision_v2": {
        "text_config": {"model_type": "hyperclovax", "logits_scaling": 0.25, "attention_multiplier": 0.25},
    },
    "hunyuan_vl": {"text_config": {"head_dim": 16, "rope_parameters": {**_ROPE, "mrope_section": [2, 2, 2, 2]}}},
    "inkling_mm_model": {
        "text_config": {
            "layer_types": ["hybrid_sliding", "hybrid"], "mlp_layer_types": ["sparse", "sparse"], "swa_head_dim": 16,
            "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "unpadded_vocab_size": 600,
        },
        "vision_config": {"n_layers": 1},
    },
    "lfm2_vl": {"text_config": {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3}},
    "janus": {
        "vq_config": {"base_channels": 32, "num_embeddings": 64, "projection_dim": 64, "image_token_embed_dim": 64},
    },
    "kimi_k25": {"text_config": _MLA},
    "mistral4": _MLA,
    "paddleocr_vl": {"text_config": {"rope_parameters": _MROPE}},
    "minimax_m3_vl": {
        "text_config": {"mlp_layer_types": ["dense", "sparse"], "index_head_dim": 16, "rotary_dim": 8},
        "merged_hidden_size": 256,
    },
    "mllama": {
        "text_config": {"cross_attention_layers": [1]},
        "vision_config": {"intermediate_layers_indices": [0], "vision_output_dim": 128},
    },
    "muse_glimmer": {
        "text_config": {"layer_rope_theta": [1e4, 0], "final_logit_softcapping": 2.0},
        "vision_config": {"num_hidden_layers": 2}, "out_hidden_size": 6 * 64,
    },
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 64,
            "indexer_compress_ratio": 4, "hc_lowrank": 16, "output_gate_type": "silu",
            "rope_parameters": {**_MROPE, "mrope_interleaved": True},
        },
    },
    "qwen2_vl": {"text_config": {"rope_parameters": _MROPE}},
    "qwen2_5_vl": {"text_config": {"rope_parameters": _MROPE}},
    "qwen2_5_omni_thinker": {"text_config": {"rope_parameters": _MROPE}},
    "qwen3_omni_moe_thinker": {"text_config": {"rope_parameters": {**_MROPE, "mrope_interleaved": True}}},
    "qwen3_vl": {
        "text_config": {"rope_parameters": {**_MROPE, "mrope_interleaved": True}},
        "vision_config": {"deepstack_visual_indexes": [0]},
    },
    "qwen3_vl_moe": {
        "text_config": {"rope_parameters": {**_MROPE, "mrope_interleaved": True}},
        "vision_config": {"deepstack_visual_indexes": [0]},
    },
    "step3p7": {
        "text_config": {
            "mlp_layer_types": ["dense", "sparse"], "num_sliding_attention_heads": 4,
            "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64,
        },
    },
}  # fmt: skip


def _shrink(config: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and name.endswith("_config"):
            out[name] = _shrink(value)
        elif (
            name in _SIZES and (value is not None or name.endswith("_token_id")) and not isinstance(value, (list, dict))
        ):
            out[name] = _SIZES[name]
        else:
            out[name] = value
    if "num_hidden_layers" in out:
        # One layer of each kind, and two at least.
        kinds = list(dict.fromkeys(out.pop("layer_types", None) or []))
        out["num_hidden_layers"] = max(2, len(kinds))
        if kinds:
            out["layer_types"] = (kinds * 2)[: out["num_hidden_layers"]]
    return out


def _patch(config: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if value is None:
            config.pop(name, None)
        elif isinstance(value, dict) and isinstance(config.get(name), dict) and name.endswith("_config"):
            _patch(config[name], value)
        else:
            config[name] = copy.deepcopy(value)


def tiny_config(model_type: str) -> Any:
    """The shrunk configuration of an architecture."""
    from transformers import CONFIG_MAPPING

    kind: Any = CONFIG_MAPPING[model_type]
    plain = _shrink(kind().to_dict())
    for name in ("transformers_version", "architectures", "dtype"):
        plain.pop(name, None)
    _patch(plain, PATCHES.get(model_type, {}))
    return kind.from_dict(plain)


def tiny_model(model_type: str, seed: int = 9) -> Any:
    """A tiny model with random weights, in evaluation mode."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind: Any = getattr(transformers, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[model_type])
    torch.manual_seed(seed)
    model = kind._from_config(tiny_config(model_type))
    return model.eval()


def text_renderer() -> Any:
    """A renderer of text alone: a tokenizer in place of a processor."""
    from mstar.models.tiny import build_tiny_processor
    from mstar.rendering import Renderer

    tokenizer = build_tiny_processor().tokenizer
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}{{ part['text'] }}"
        "{% endfor %}{% if message['role'] == 'assistant' %}<end_of_utterance>{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return Renderer(tokenizer)


PROMPTS = [
    Prompt("short", "Even?"),
    Prompt("long", "How much more is green than purple, and why is it so?"),
    Prompt("middle", "What is red plus yellow?"),
]
OWNERS = [2, 0, 1, 0]
TEXTS = ["red = 4\n", "a much longer line than all the others = 12\n", "5", "no\nno"]


def plain_logits(model: Any, renderer: Any, prompt: Prompt, tail: Sequence[int]) -> Tensor:
    """The logits (T, V) of one row by the model's own forward pass, without padding and without a cache."""
    ids = torch.cat([renderer.prompt_inputs([prompt]).ids_BT, torch.tensor([list(tail)], dtype=torch.long)], dim=1)
    logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[0].float()


@torch.inference_mode()
def scoring_error(model: Any, renderer: Any) -> float:
    """How far right-padded responses behind shared, left-padded prompts are from plain forward passes."""
    rows = [renderer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    prefix = encode_prefix(model, renderer.prompt_inputs(PROMPTS))
    first = logits_of(model, prefix.hidden_BH)
    errors = [
        (first[i] - plain_logits(model, renderer, prompt, [])[-1]).abs().max() for i, prompt in enumerate(PROMPTS)
    ]
    hidden, _ = extend(model, prefix.select(torch.tensor(OWNERS)), ids, mask)
    for number, (owner, row) in enumerate(zip(OWNERS, rows, strict=True)):
        wanted = plain_logits(model, renderer, PROMPTS[owner], row)[-len(row) :]
        errors.append((logits_of(model, hidden[number, : len(row)]) - wanted).abs().max())
    return float(torch.stack(errors).max())


@torch.inference_mode()
def decoding_error(model: Any, renderer: Any) -> float:
    """The same of tokens that are written one by one, while rows leave the batch or become two."""
    prefix = encode_prefix(model, renderer.prompt_inputs(PROMPTS)).spread(model, torch.tensor(OWNERS))
    written: list[list[int]] = [[] for _ in OWNERS]
    owners, generator, errors = list(OWNERS), torch.Generator().manual_seed(1), []
    for branched in (False, True, True):
        if branched:
            prefix, order = prefix.branch([(1, 0, 2)[row % 3] for row in range(len(owners))])
            written, owners = [list(written[row]) for row in order], [owners[row] for row in order]
        found = []
        for _ in range(3):
            tokens = torch.randint(5, 500, (len(owners), 1), generator=generator)
            for row, token in zip(written, tokens.tolist(), strict=True):
                row += token
            _, prefix = extend(model, prefix, tokens, torch.ones_like(tokens))
            found.append(logits_of(model, prefix.hidden_BH))
        for number, (owner, row) in enumerate(zip(owners, written, strict=True)):
            wanted = plain_logits(model, renderer, PROMPTS[owner], row)[-len(found) :]
            errors.append((torch.stack(found)[:, number] - wanted).abs().max())
    return float(torch.stack(errors).max())


@torch.no_grad()
def loss_error(model: Any, renderer: Any) -> float:
    """How far the losses of a right-padded batch are from those of plain forward passes."""
    batch = renderer.response_inputs(PROMPTS, TEXTS[:3])
    hidden = family_of(model).hidden_states(model, batch.inputs.ids_BT, batch.inputs.mask_BT, {})
    learned = batch.labels_BT[:, 1:] != IGNORE_INDEX
    found = token_losses(model, hidden[:, :-1][learned], batch.labels_BT[:, 1:][learned])
    tails = renderer.encode_responses(TEXTS[:3])[0]
    wanted = [
        cross_entropy(
            plain_logits(model, renderer, prompt, tail)[-len(tail) - 1 : -1], torch.tensor(tail), reduction="none"
        )
        for prompt, tail in zip(PROMPTS, tails, strict=True)
    ]
    return float((found - torch.cat(wanted)).abs().max())


@torch.inference_mode()
def packing_error(model: Any, renderer: Any) -> float:
    """How far packed rows are from padded ones."""
    inputs = renderer.response_inputs(PROMPTS, TEXTS[:3]).inputs
    padded = family_of(model).hidden_states(model, inputs.ids_BT, inputs.mask_BT, {})[inputs.mask_BT.bool()]
    return float((packed_hidden_states(model, inputs) - padded).abs().max())
