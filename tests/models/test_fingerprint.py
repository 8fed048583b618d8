"""Models are told apart by their weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from mstar.models.fingerprint import fingerprint_model


def test_the_fingerprint_tells_weights_apart(tiny: Any) -> None:
    model = copy.deepcopy(tiny.model)
    assert fingerprint_model(model) == fingerprint_model(tiny.model)
    with torch.no_grad():
        next(model.parameters()).flatten()[0] += 1
    assert fingerprint_model(model) != fingerprint_model(tiny.model)


def test_a_model_is_told_apart_from_itself_after_a_step_of_training() -> None:
    model = nn.Linear(100, 100)
    before = fingerprint_model(model)
    assert fingerprint_model(model) == before
    with_new_bias = model.bias.detach() + 1e-3
    model.bias.data.copy_(with_new_bias)
    assert fingerprint_model(model) != before
