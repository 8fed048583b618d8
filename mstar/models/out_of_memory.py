"""Work that is done in smaller parts when the memory is not enough for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import torch

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


def within_memory(batch: Callable[[], T], size: int, setting: str) -> T | None:
    """What a batch of responses gives; None, and a warning, where the memory is not enough for it.

    Whoever gets None goes on with halves, and with batches of that size from then on.

    Raises:
        RuntimeError: the memory is not enough for one response, or something else went wrong.
    """
    try:
        return batch()
    except RuntimeError as error:
        # On a CPU, Torch raises no class of its own.
        if size == 1 or not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
    # Not within the handler: the error still holds tensors there.
    torch.cuda.empty_cache()
    _log.warning("Memory is short for %d responses at a time: going on with %d (%s)", size, size // 2, setting)
    return None
