"""Telling one set of weights from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from torch import Tensor, nn

from mstar.models.sharding import full_state

_ENTRIES: Final = 1024


def fingerprint_model(model: nn.Module) -> str:
    """A short hash of a model's weights; of a large tensor evenly spread entries are read.

    All processes call it together where weights are sharded, and get the same hash, that of the same model in one
    piece.
    """
    return fingerprint_state(full_state(model))


def fingerprint_state(state: Iterable[tuple[str, Tensor]]) -> str:
    """The same for some named tensors, in any order."""
    parts = []
    for name, value in state:
        flat = value.detach().reshape(-1)
        entries = flat[:: max(1, flat.numel() // _ENTRIES)].double().cpu().numpy()
        parts.append((name, f"{name}{tuple(value.shape)}".encode() + entries.tobytes()))
    digest = hashlib.blake2b(digest_size=8)
    for _, part in sorted(parts):
        digest.update(part)
    return digest.hexdigest()
