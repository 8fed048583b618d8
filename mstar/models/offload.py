"""Memory of a device that is short: weights that are there only while they are used, and work in smaller parts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import torch
from torch import nn

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)


@contextmanager
def on_device(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within it a model that nobody trains is on the device; outside, its weights are where they were.

    Nothing is copied back, because nothing has changed. Weights that were loaded from a file of their own type are a
    map of that file (``load_model`` on the CPU), so the processes of a machine share its pages while they are away.
    """
    home = [(tensor, tensor.data) for tensor in (*model.parameters(), *model.buffers())]
    if all(data.device == device for _, data in home):
        yield
        return
    try:
        for tensor, data in home:
            tensor.data = data.to(device)
        yield
    finally:
        for tensor, data in home:
            tensor.data = data
        torch.cuda.empty_cache()


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
