"""Encode a prompt once, use it for many continuations: the shared prefill of sampling, scoring and annotation.

Shapes: B rows of the prefix, R rows of the continuation, T prefix tokens, N new tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, LinearAttentionCacheLayerMixin

from mstar.models.families import family_of
from mstar.models.shared_prefix import SharedPrefixLayer, can_share, decoding, share, take_rows
from mstar.rendering import ModelInputs


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
        for layer in self.cache.layers:
            take_rows(layer, rows_R)
        return self._with_rows(rows_R)

    def spread(self, model: nn.Module, rows_R: Tensor) -> Prefix:
        """The same for decoding token by token, without gradients: repeated rows share their memory where they can."""
        if not can_share(model, self.cache):
            return self.select(rows_R)
        share(self.cache, rows_R)
        return self._with_rows(rows_R)

    def branch(self, counts: Sequence[int]) -> tuple[Prefix, list[int]]:
        """Repeats each row as often as is said, or leaves it out, after ``spread``; little is copied.

        Returns:
            The new prefix, and for each of its rows the row that it was.
        """
        if all(count == 1 for count in counts):
            return self, list(range(len(counts)))
        order, targets, sources = place_rows(counts)
        order_R, targets_N, sources_N = (
            torch.tensor(places, dtype=torch.long, device=self.mask_BT.device) for places in (order, targets, sources)
        )
        layers: list[Any] = list(self.cache.layers)
        shared = [layer for layer in layers if isinstance(layer, SharedPrefixLayer)]
        if shared:
            shared[0].places.keep(order)  # all layers have the same
        for layer in layers:
            if layer in shared:
                layer.replace_rows(targets_N, sources_N, len(order))
            else:
                take_rows(layer, order_R)
        return self._with_rows(order_R), order

    def _with_rows(self, rows_R: Tensor) -> Prefix:
        if hasattr(self.cache, "position_ids"):  # Qwen4 keeps the positions (3, B, T) of all tokens beside its layers
            self.cache.position_ids = self.cache.position_ids[:, rows_R]
        return Prefix(self.cache, self.mask_BT[rows_R], self.next_position_B[rows_R], self.hidden_BH[rows_R])


def is_recurrent(model: Any) -> bool:
    """Whether a model has layers that keep one state of all they have read (Qwen3.5, LFM2-VL), overwritten in place."""
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in DynamicCache(config=model.config).layers)


def place_rows(counts: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """The order in which rows, each so many times, fill the first places: one that can stays where it is.

    Returns:
        For every place the row that it holds, the places that others fill, and the rows that these are.
    """
    num_rows = sum(counts)
    stays = [place < len(counts) and counts[place] > 0 for place in range(num_rows)]
    targets = [place for place, stay in enumerate(stays) if not stay]
    sources = [row for row, count in enumerate(counts) for _ in range(count - (1 if row < num_rows and count else 0))]
    order = list(range(num_rows))
    for target, source in zip(targets, sources, strict=True):
        order[target] = source
    return order, targets, sources


def encode_prefix(model: Any, inputs: ModelInputs) -> Prefix:
    """Runs images and prompts, left-padded (``Renderer.prompt_inputs``), through the model once."""
    family = family_of(model)
    positions = _positions(model, inputs.mask_BT.cumsum(1).sub(1).clamp(min=0))
    # Families with multimodal rotary positions (Qwen2-VL) compute them from the image grid themselves. Without pictures
    # such a model still holds the offsets of the last batch that had some.
    computed = family.has_planes(model) and any(name.endswith("grid_thw") for name in inputs.extras)
    cache = DynamicCache(config=model.config)
    hidden_BTH = family.hidden_states(
        model, inputs.ids_BT, inputs.mask_BT, inputs.extras, None if computed else positions, cache
    )
    next_position_B = inputs.mask_BT.sum(1)
    if computed:
        next_position_B = next_position_B + model.model.rope_deltas.view(-1)
    return Prefix(cache, inputs.mask_BT, next_position_B, hidden_BTH[:, -1])


def extend(model: nn.Module, prefix: Prefix, ids_RN: Tensor, mask_RN: Tensor) -> tuple[Tensor, Prefix]:
    """Runs new tokens after a prefix.

    A family with sliding windows (Gemma 3) or recurrent layers (Qwen3.5) counts padding in what it keeps: its rows of
    unequal length can be run only once.

    Args:
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
    with decoding(model, prefix.cache):
        hidden_RNH = family_of(model).hidden_states(
            model, ids_RN, mask_RT, {}, _positions(model, positions_RN), prefix.cache
        )
    grown = Prefix(prefix.cache, mask_RT, prefix.next_position_B + mask_RN.sum(1), hidden_RNH[:, -1])
    return hidden_RNH, grown


def branch_by_token(prefix: Prefix, row_S: Tensor, token_S: Tensor) -> tuple[Prefix, Tensor, Tensor]:
    """Gives samples of one row that have drawn different tokens rows of their own; rows without samples go.

    Returns:
        The prefix, the row of every sample, and the token of every row.
    """
    # Sorted by row, then by token.
    bound = int(token_S.max()) + 1
    branch_R, branch_S = torch.unique(row_S * bound + token_S, return_inverse=True)
    counts = (branch_R // bound).bincount(minlength=len(prefix.mask_BT))
    prefix, order = prefix.branch(counts.tolist())
    place_R = torch.tensor(order).argsort(stable=True)
    return prefix, place_R[branch_S], torch.empty_like(branch_R).index_copy(0, place_R, branch_R % bound)


def _positions(model: nn.Module, positions_BT: Tensor) -> Tensor:
    """Text positions in the form that the model takes: multimodal rotary positions have three equal planes for text."""
    return positions_BT.expand(3, -1, -1) if family_of(model).has_planes(model) else positions_BT


def logits_of(model: nn.Module, hidden: Tensor) -> Tensor:
    """The logits, in float32, for hidden states of any leading shape."""
    return family_of(model).logits(model, hidden)
