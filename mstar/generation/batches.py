"""Which responses are written at the same time: as many as a limit or the memory allows.

What is counted against the memory does not depend on what else the device does, nor on time: the same card and
configuration give the same batches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers.cache_utils import DynamicCache

from mstar.generation.base import Request, Sample
from mstar.models.families import language_head
from mstar.models.shared_prefix import can_share, reserved
from mstar.models.sizes import CacheSize, activation_bytes_per_token, cache_size, vocabulary

# Bytes of one logit of a row that draws a token: as the head makes it, in float32, without what is banned, scaled, and
# as a probability twice (padded to blocks).
_LOGIT_BYTES: Final = 24
# Bytes of an attention score of a row: scores, with bias, and weights, partly in float32.
_SCORE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One response to write."""

    request: int
    sample: Sample


@dataclass(frozen=True)
class Memory:
    """What writing a batch takes, and what it may take.

    Attributes:
        available: Bytes that it may take.
        shared: Whether all responses to a prompt use one copy of it.
        row: Bytes a running row beside the cache: logits.
        score: Bytes a token that a row attends to.
        encoding: Bytes a prompt token while prompts are read.
    """

    available: int
    cache: CacheSize
    max_new_tokens: int
    shared: bool
    row: int
    score: int
    encoding: int

    @classmethod
    def of(cls, policy: Any, available: int, max_new_tokens: int) -> Memory:
        """What a model takes, computing at this place (within autocast, or not)."""
        config: Any = policy.config
        text = config.get_text_config(decoder=True)
        weight: Any = language_head(policy).weight
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        return cls(
            available,
            cache_size(config, dtype),
            max_new_tokens,
            can_share(policy, DynamicCache(config=config)),
            vocabulary(config) * _LOGIT_BYTES,
            text.num_attention_heads * _SCORE_BYTES,
            activation_bytes_per_token(config, dtype),
        )

    def needed(self, num_prompts: int, longest: int, num_rows: int) -> int:
        """Bytes at the fullest moment."""
        prompts = num_prompts * self.cache.row(longest)
        reading = num_prompts * longest * self.encoding
        attended = longest + self.max_new_tokens
        kept = self.cache.new_tokens(reserved(self.max_new_tokens), longest)
        if not self.shared:
            kept = self.cache.row(attended)
        return prompts + max(reading, num_rows * (kept + self.row + attended * self.score))

    def fits(self, num_prompts: int, longest: int, num_rows: int) -> bool:
        """Whether a batch's needs are met; a single row is always tried."""
        return num_rows == 1 or self.needed(num_prompts, longest, num_rows) <= self.available


def fill_batches(
    requests: Sequence[Request], lengths: Sequence[int], fits: Callable[[int, int, int], bool]
) -> Iterator[list[Row]]:
    """Fills batches with whole requests in order; a request with more samples than a batch holds is split.

    Args:
        lengths: The tokens of each one's prompt.
        fits: Whether so many prompts, the longest with so many tokens, with so many rows make a batch; asked again for
            every batch, so that what has been learnt meanwhile counts.
    """
    batch: list[Row] = []
    prompts = longest = 0
    for number, (request, length) in enumerate(zip(requests, lengths, strict=True)):
        rows = [Row(number, sample) for sample in request.samples]
        if batch and rows and not fits(prompts + 1, max(longest, length), len(batch) + len(rows)):
            yield batch
            batch, prompts, longest = [], 0, 0
        while rows and not batch and not fits(1, length, len(rows)):
            # The most that fit; one does in any case.
            most = 1 + bisect_left(range(2, len(rows)), True, key=lambda num_rows: not fits(1, length, num_rows))
            yield rows[:most]
            rows = rows[most:]
        if rows:
            batch, prompts, longest = batch + rows, prompts + 1, max(longest, length)
    if batch:
        yield batch
