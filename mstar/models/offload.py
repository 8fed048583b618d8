"""Weights that are on the device only while they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
