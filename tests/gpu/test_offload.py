"""Weights that visit a GPU: they compute there, and are where they were afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mstar.models.offload import on_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("fails", [False, True])
def test_weights_go_and_come_back(fails: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
    model[1].weight = nn.Parameter(model[0].weight[0].detach().clone())
    rows = torch.rand(2, 3)
    expected, before = model(rows), [value.data_ptr() for value in model.state_dict().values()]
    try:
        with on_device(model, torch.device("cuda", 0)):
            assert {value.device.type for value in model.state_dict().values()} == {"cuda"}
            torch.testing.assert_close(model(rows.cuda()).cpu(), expected, atol=1e-4, rtol=0)
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert [value.data_ptr() for value in model.state_dict().values()] == before
    assert torch.equal(model(rows), expected)
