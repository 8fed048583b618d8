"""Encode a prompt once, use it for many continuations: the shared prefill of sampling, scoring and annotation.

Shapes: B rows of the prefix, R rows of the continuation, T prefix tokens, N new tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mstar.models.backbone import language_head
from mstar.rendering import ModelInputs

if TYPE_CHECKING:
    from transformers import DynamicCache

__all__ = ["Prefix", "encode_prefix", "extend", "logits_of"]


@dataclass
class Prefix:
    """What a model knows after reading some left-padded rows.

    Attributes:
        cache: Keys and values of every layer, one row a row.
        mask_BT: 1 for real tokens.
        next_position_B: The position id of the token that comes next in each row.
        hidden_BH: Last hidden state of each row's last token.
    """

    cache: DynamicCache
    mask_BT: Tensor
    next_position_B: Tensor
    hidden_BH: Tensor

    def select(self, rows_R: Tensor) -> Prefix:
        """The rows ``rows_R`` (repeated as often as they are named), in place where the cache is concerned."""
        self.cache.batch_select_indices(rows_R)
        return Prefix(self.cache, self.mask_BT[rows_R], self.next_position_B[rows_R], self.hidden_BH[rows_R])


def encode_prefix(model: nn.Module, inputs: ModelInputs) -> Prefix:
    """Runs images and prompts through the model once.

    Args:
        model: The vision-language model.
        inputs: Left-padded rows (``Renderer.prompt_inputs``).
    """
    from transformers import DynamicCache

    config: Any = model.config
    base: Any = model.model
    positions_BT = inputs.mask_BT.cumsum(1).sub(1).clamp(min=0)
    multimodal_positions = hasattr(base, "get_rope_index")
    # Without pictures such a model still holds the offsets of the last batch that had some.
    computes_positions = multimodal_positions and any(name.endswith("grid_thw") for name in inputs.extras)
    cache = DynamicCache(config=config)
    output = base(
        input_ids=inputs.ids_BT,
        attention_mask=inputs.mask_BT,
        # Families with multimodal rotary positions (Qwen2-VL) compute them from the image grid themselves.
        position_ids=None if computes_positions else _planes(base, positions_BT),
        past_key_values=cache,
        use_cache=True,
        **inputs.extras,
    )
    next_position_B = inputs.mask_BT.sum(1)
    if computes_positions:
        next_position_B = next_position_B + base.rope_deltas.view(-1)
    return Prefix(cache, inputs.mask_BT, next_position_B, output.last_hidden_state[:, -1])


def extend(model: nn.Module, prefix: Prefix, ids_RN: Tensor, mask_RN: Tensor) -> tuple[Tensor, Prefix]:
    """Runs new tokens after a prefix.

    Args:
        model: The vision-language model.
        prefix: What came before; its cache grows in place.
        ids_RN: The new tokens, right-padded.
        mask_RN: 1 for real new tokens.

    Returns:
        The last hidden states of the new tokens (R, N, H), and the longer prefix. Its ``hidden_BH`` is the state of
        the last column, which is a real token only in rows without padding.
    """
    offsets_RN = mask_RN.cumsum(1).sub(1).clamp(min=0)
    positions_RN = prefix.next_position_B[:, None] + offsets_RN
    mask_RT = torch.cat([prefix.mask_BT, mask_RN], dim=1)
    base: Any = model.model
    output = base(
        input_ids=ids_RN,
        attention_mask=mask_RT,
        position_ids=_planes(base, positions_RN),
        past_key_values=prefix.cache,
        use_cache=True,
    )
    hidden_RNH = output.last_hidden_state
    grown = Prefix(prefix.cache, mask_RT, prefix.next_position_B + mask_RN.sum(1), hidden_RNH[:, -1])
    return hidden_RNH, grown


def _planes(base: Any, positions_BT: Tensor) -> Tensor:
    """Text positions in the form that the model takes: multimodal rotary positions have three equal planes for text."""
    return positions_BT.expand(3, -1, -1) if hasattr(base, "get_rope_index") else positions_BT


def logits_of(model: nn.Module, hidden: Tensor) -> Tensor:
    """The language head's logits, in float32, for hidden states of any leading shape."""
    logits: Tensor = language_head(model)(hidden)
    return logits.float()
