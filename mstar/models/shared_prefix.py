"""Decoding many continuations of one prompt with the prompt's keys and values in memory once.

Transformers' dynamic cache repeats the prompt for every continuation and is copied whole for every new token. Here the
queries of all continuations of a prompt meet its keys in one matrix product, and new tokens are written in place.

Shapes: P prompts, W places for continuations of each prompt, R running rows, K key-value heads, G queries of each of
them, H = K x G query heads, T prompt tokens, S new tokens so far, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicCache, DynamicLayer, LinearAttentionCacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME: Final = "mstar_shared_prefix"
_ROOM: Final = 128
# Fewer multiplications than this for each matrix of a batch: at::native::bmm_out_or_baddbmm_.
_LOOPED: Final = 400
_cache: ContextVar[DynamicCache] = ContextVar("cache")


class Places:
    """Where the rows stand when they are laid out by prompt.

    Args:
        owner_R: The prompt of every row.
        num_prompts: P.
    """

    def __init__(self, owner_R: Tensor, num_prompts: int) -> None:
        self.num_prompts = num_prompts
        self._device = owner_R.device
        self._assign(owner_R.tolist())

    def _assign(self, owners: list[int]) -> None:
        filled = [0] * self.num_prompts
        places: list[tuple[int, int]] = []
        for owner in owners:
            places.append((owner, filled[owner]))
            filled[owner] += 1
        self._owners, self.width = owners, max(filled)
        flat = [owner * self.width + rank for owner, rank in places]
        self._trivial = flat == list(range(self.num_prompts * self.width))
        self.place_R = torch.tensor(flat, device=self._device)

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps these rows, in this order."""
        self._assign([self._owners[row] for row in rows])

    def lay_out(self, rows: Tensor) -> Tensor:
        """Rows (R, K, G, X) by prompt (P, K, W x G, X); empty places are 0."""
        _, heads, group, size = rows.shape
        if not self._trivial:
            places = rows.new_zeros(self.num_prompts * self.width, heads, group, size)
            rows = places.index_copy(0, self.place_R, rows)
        laid = rows.view(self.num_prompts, self.width, heads, group, size).transpose(1, 2)
        return laid.reshape(self.num_prompts, heads, self.width * group, size)

    def take_up(self, laid: Tensor) -> Tensor:
        """The inverse of ``lay_out``."""
        _, heads, columns, size = laid.shape
        group = columns // self.width
        rows = laid.view(self.num_prompts, heads, self.width, group, size).transpose(1, 2)
        rows = rows.reshape(self.num_prompts * self.width, heads, group, size)
        return rows if self._trivial else rows.index_select(0, self.place_R)


class SharedPrefixLayer(DynamicLayer):
    """One layer's keys and values: the prompts' once, and those of each row's new tokens.

    To masks and positions it looks like an ordinary layer that holds everything. New tokens are written in place, so
    it cannot be used where gradients are computed.
    """

    keys: Any
    values: Any

    def __init__(self, layer: Any, places: Places) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # The names and the meaning of these attributes are those of the base class; keys and values are the new ones.
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.prompt_keys = _as_multiplied(layer.keys)
        self.prompt_values = _as_multiplied(layer.values)
        self.places = places
        self._num_rows = len(places.place_R)
        self._buffers = [
            states.new_empty(self._num_rows, states.shape[1], _ROOM, states.shape[3])
            for states in (self.prompt_keys, self.prompt_values)
        ]
        self.waiting = False
        self._show(0)

    def _show(self, num_tokens: int) -> None:
        self.keys, self.values = (buffer[: self._num_rows, :, :num_tokens] for buffer in self._buffers)

    def get_seq_length(self) -> int:
        """Prompt tokens and new tokens."""
        return int(self.prompt_keys.shape[-2] + self.keys.shape[-2])

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Appends the keys and values of new tokens, and returns those of all new tokens alone."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            self._make_room(self._num_rows, end + _ROOM)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: self._num_rows, :, start:end] = new
        self._show(end)
        self.waiting = True
        return self.keys, self.values

    def replace_rows(self, targets_N: Tensor, sources_N: Tensor, num_rows: int) -> None:
        """Copies rows over others, then keeps the first ``num_rows``."""
        length = self.keys.shape[-2]
        if num_rows > len(self._buffers[0]):
            self._make_room(2 * num_rows, self._buffers[0].shape[-2])
        for buffer in self._buffers:
            written = buffer[:, :, :length]
            written[targets_N] = written[sources_N]
        self._num_rows = num_rows
        self._show(length)

    def _make_room(self, num_rows: int, num_tokens: int) -> None:
        for number, old in enumerate((self.keys, self.values)):
            buffer = old.new_empty(num_rows, old.shape[1], num_tokens, old.shape[3])
            buffer[: old.shape[0], :, : old.shape[2]] = old
            self._buffers[number] = buffer

    def attend(self, query: Tensor, bias: Tensor, scaling: float) -> Tensor:
        """The attention of one new token a row (R, H, 1, D), with a bias (R, 1, 1, T + S) that masks; (R, 1, H, D)."""
        self.waiting = False
        num_rows, num_heads, _, size = query.shape
        heads, length = self.prompt_keys.shape[1:3]
        query_RKGD = query.reshape(num_rows, heads, num_heads // heads, size) * scaling
        to_prompt = self.places.take_up(self.places.lay_out(query_RKGD) @ self.prompt_keys.transpose(-1, -2))
        to_new = query_RKGD @ self.keys.transpose(-1, -2)
        scores_RKGT = torch.cat([to_prompt, to_new], dim=-1) + bias
        weights_RKGT = scores_RKGT.softmax(-1, dtype=torch.float32).to(query.dtype)
        of_prompt = self.places.lay_out(weights_RKGT[..., :length]) @ self.prompt_values
        output_RKGD = self.places.take_up(of_prompt) + weigh(weights_RKGT[..., length:], self.values)
        attended: Tensor = output_RKGD.reshape(num_rows, 1, num_heads, self.values.shape[-1])
        return attended


def weigh(weights_RKGS: Tensor, values_RKSD: Tensor) -> Tensor:
    """The weighted sums of values (R, K, G, D).

    On CPUs, PyTorch multiplies a batch of very small matrices in a plain loop, which takes several times as long as
    to multiply and to sum. The sum is in the same order; on x86-64, it is the same to the last bit.
    """
    group, num_tokens, size = *weights_RKGS.shape[-2:], values_RKSD.shape[-1]
    plain = values_RKSD.device.type == "cpu" and values_RKSD.dtype == torch.float32
    if plain and group == 1 and num_tokens * size < _LOOPED:
        return (weights_RKGS.transpose(-1, -2) * values_RKSD).sum(-2, keepdim=True)
    return weights_RKGS @ values_RKSD


def reserved(num_tokens: int) -> int:
    """New tokens that a row's buffers have room for when it has so many."""
    length = _ROOM
    while length < num_tokens:
        length += 1 + _ROOM
    return length


def can_share(model: Any, cache: DynamicCache) -> bool:
    """Whether a model decodes rightly from shared prompts: it lets its attention be replaced, and has a plain one."""
    config: Any = model.config.get_text_config(decoder=True)
    plain = config._attn_implementation in {"sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4"}
    return (
        plain
        and bool(getattr(model, "_supports_attention_backend", False))
        and getattr(config, "attn_logit_softcapping", None) is None
        and getattr(config, "kv_lora_rank", None) is None  # what such a model keeps is not yet its keys and values
        and any(type(layer) is DynamicLayer for layer in cache.layers)
    )


def share(cache: DynamicCache, owner_R: Tensor) -> None:
    """Makes of a row for every prompt one for every continuation, whose prompts are ``owner_R``, in place.

    Layers that forget (sliding windows, recurrent layers) hold their rows' own copy as before.
    """
    layers: list[Any] = list(cache.layers)
    first: Any = next(layer for layer in layers if type(layer) is DynamicLayer)
    places = Places(owner_R, first.keys.shape[0])
    for number, layer in enumerate(layers):
        if type(layer) is DynamicLayer:
            cache.layers[number] = SharedPrefixLayer(layer, places)
        else:
            take_rows(layer, owner_R)


@contextmanager
def decoding(model: Any, cache: DynamicCache) -> Iterator[None]:
    """Inside, the model's forward pass attends to shared prompts where the cache has them.

    Raises:
        RuntimeError: the model computed attention in its own way, so that what it returned is wrong.
    """
    shared = [layer for layer in cache.layers if isinstance(layer, SharedPrefixLayer)]
    if not shared:
        yield
        return
    config: Any = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    token = _cache.set(cache)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _cache.reset(token)
    if any(layer.waiting for layer in shared):
        raise RuntimeError(f"{type(model).__name__} does not compute attention through Transformers' interface.")


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **kwargs: Any
) -> tuple[Tensor, None]:
    layer = _cache.get().layers[module.layer_idx]
    if not isinstance(layer, SharedPrefixLayer):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if key is not layer.keys:
        raise RuntimeError(f"{type(module).__name__} does not attend to the keys that it keeps.")
    scaling = kwargs.get("scaling")
    return layer.attend(query, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling), None


def _as_multiplied(states: Tensor) -> Tensor:
    """Keys or values in the type that autocast, if it is on, would convert all of them to for every token."""
    device = states.device.type
    return states.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else states


def _bias(*args: Any, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Tensor | None:
    """The mask as a bias, 0 or the lowest number; Transformers' own copies a 0 from the host, which waits for it."""
    untyped: Any = sdpa_mask
    mask = untyped(*args, **(kwargs | {"allow_is_causal_skip": False}))
    if mask is None:
        return None
    return torch.zeros((), dtype=dtype, device=mask.device).where(mask, torch.finfo(dtype).min)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _bias)


def take_rows(layer: Any, rows_R: Tensor) -> None:
    """Keeps these rows of one layer of a cache, in place, repeated as often as they are named."""
    # The states of a recurrent layer know no other name; with its keys alone, a mixed layer would be half done.
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        rows: Any = rows_R
        layer.reorder_cache(rows)
    else:
        layer.batch_select_indices(rows_R)
