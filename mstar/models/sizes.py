"""How many bytes a model's memory of tokens and its activations take: arithmetic on a configuration.

Nothing here looks at a device, so that what follows from it is the same wherever the same model is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from transformers.cache_utils import DynamicCache

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# Layers with a state of fixed size in place of keys and values keep it in float32, whatever the model computes in.
_STATE_BYTES: Final = 4


@dataclass(frozen=True)
class CacheSize:
    """What decoding keeps of one row of tokens, over all layers.

    Attributes:
        whole: Bytes a token in the layers that attend to everything.
        windows: For each layer with a sliding window, how many tokens it keeps at most, and the bytes of one.
        fixed: Bytes a row, however long it is: the states of linear attention and of convolutions.
    """

    whole: int
    windows: tuple[tuple[int, int], ...] = ()
    fixed: int = 0

    def row(self, num_tokens: int) -> int:
        """Bytes of a row of so many tokens."""
        kept = sum(min(num_tokens, window) * size for window, size in self.windows)
        return num_tokens * self.whole + kept + self.fixed

    def new_tokens(self, num_tokens: int, behind: int | None = None) -> int:
        """Bytes that so many more tokens add at most to a row whose prompt is kept once for all its continuations.

        Only layers that attend to everything share the prompt; the others hold each row's own copy.

        Args:
            behind: Tokens of the prompt; None where they are not known, and windows are taken to be full.
        """
        kept = sum(
            (window if behind is None else min(window, behind + num_tokens)) * size for window, size in self.windows
        )
        return num_tokens * self.whole + kept + self.fixed


def cache_size(config: Any, dtype: torch.dtype) -> CacheSize:
    """What decoding keeps of a row, by the model's layers: grouped queries, windows, linear attention.

    Latent attention (DeepSeek's MLA) is counted as if its heads were kept whole.
    """
    text = config.get_text_config(decoder=True)
    layers = DynamicCache(config=text).layers
    # Gemma 4's layers differ in their heads.
    configs = getattr(text, "per_layer_config", None)
    whole, fixed = 0, 0
    windows = []
    for number, layer in enumerate(layers):
        here = text if configs is None else configs[number]
        if hasattr(layer, "recurrent_states"):
            fixed += _state_bytes(text.layer_types[number], here, dtype)
        if not hasattr(layer, "keys"):
            continue
        size = _kv_bytes(here, dtype)
        window = getattr(layer, "sliding_window", None)
        if window is None:
            whole += size
        else:
            windows.append((window - 1, size))  # the token that is being read is not kept
    return CacheSize(whole, tuple(windows), fixed)


def _kv_bytes(config: Any, dtype: torch.dtype) -> int:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * (getattr(config, "num_key_value_heads", None) or heads) * size * dtype.itemsize)


def _state_bytes(kind: str, config: Any, dtype: torch.dtype) -> int:
    """Bytes a row of a layer's states, where the family's configuration tells them (Qwen3.5, LFM2); else 0."""
    if kind == "linear_attention" and hasattr(config, "linear_num_value_heads"):
        keys = config.linear_num_key_heads * config.linear_key_head_dim
        values = config.linear_num_value_heads * config.linear_value_head_dim
        states = config.linear_num_value_heads * config.linear_key_head_dim * config.linear_value_head_dim
        return int((2 * keys + values) * config.linear_conv_kernel_dim * dtype.itemsize + states * _STATE_BYTES)
    if kind == "conv" and hasattr(config, "conv_L_cache"):
        return int(config.hidden_size * config.conv_L_cache * dtype.itemsize)
    return 0


def vocabulary(config: Any) -> int:
    """Logits a token: rows of the language head, which may be more than the tokenizer has tokens."""
    return int(config.get_text_config(decoder=True).vocab_size)


def activation_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """An estimate of what reading a prompt takes at its fullest, a token, without gradients and beside the cache.

    That is the larger of the language model's and the vision tower's: the states in float32 with what a layer adds to
    them, and the inner states of its feed-forward part. Several patches of a picture make one token.
    """
    text = config.get_text_config(decoder=True)
    chosen = getattr(text, "num_experts_per_tok", None) or 1
    inner = max(getattr(text, "intermediate_size", 0), chosen * (getattr(text, "moe_intermediate_size", None) or 0))
    sizes = [_layer_bytes(text.hidden_size, inner, dtype)]
    vision = getattr(config, "vision_config", None)
    # Qwen2-VL and 2.5-VL call the width of the tower differently.
    width = getattr(vision, "embed_dim", None) or getattr(vision, "hidden_size", None)
    if width is not None:
        ratio = getattr(vision, "mlp_ratio", None) or 4
        inner = getattr(vision, "intermediate_size", ratio * width)
        sizes.append(patches_per_token(config) * _layer_bytes(width, inner, dtype))
    return int(max(sizes))


def _layer_bytes(hidden: int, inner: float, dtype: torch.dtype) -> float:
    # In float32: the states, a layer's sum, its norm and the product of that; in the type of computing: the norm,
    # queries, keys, values and what was attended to, and the gate, the other half and their product.
    return 4 * hidden * torch.float32.itemsize + (5 * hidden + 3 * inner) * dtype.itemsize


def patches_per_token(config: Any) -> int:
    """Patches of a picture that make one token, by any family's name for it; 1 where the configuration has none."""
    vision: Any = getattr(config, "vision_config", None)
    if tokens := getattr(config, "mm_tokens_per_image", None):  # Gemma 3
        return int((vision.image_size // vision.patch_size) ** 2 // tokens)
    # Qwen-VL and Mistral 3; Idefics3 and SmolVLM; Aya Vision and LFM2-VL; Gemma 4.
    names = ("spatial_merge_size", "scale_factor", "downsample_factor", "pooling_kernel_size")
    side = next((side for part in (vision, config) for name in names if (side := getattr(part, name, None))), 1)
    if ratio := getattr(config, "downsample_ratio", None):  # InternVL
        side = 1 / ratio
    return round(side**2)


def empty_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A model without memory for its weights, whose parameters have their names and shapes.

    Args:
        config: The model's configuration; a family, of text alone or of pictures too, that Transformers has natively.
    """
    import transformers

    auto: Any = transformers.AutoModelForImageTextToText
    if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        auto = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model: PreTrainedModel = auto.from_config(config, dtype=torch.float32)
    return model
