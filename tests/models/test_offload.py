"""Weights that visit a device: what is there already stays as it is; tests/gpu has the rest."""

from __future__ import annotations

import torch
from torch import nn

from mstar.models.offload import on_device


def test_weights_that_are_there_stay_the_same_memory() -> None:
    model = nn.BatchNorm1d(3)
    before = [value.data_ptr() for value in model.state_dict().values()]
    with on_device(model, torch.device("cpu")):
        assert [value.data_ptr() for value in model.state_dict().values()] == before
