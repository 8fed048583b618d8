"""The step head: features and lowest steps by hand."""

from __future__ import annotations

import math

import torch

from mstar.models.step_head import StepLogits, logprob_features


def test_logprob_features_by_hand() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -0.5, -20.0])
    features = logprob_features(logprobs, torch.tensor([0, 0, 1, 2]), 3)
    expected = [
        [-2 + 1, -3 / 2 + 1, math.exp(-2)],
        [-0.5 + 1, -0.5 / 2 + 1, math.exp(-0.5)],
        [-12 + 1, -12 / 2 + 1, math.exp(-20)],
    ]
    assert torch.allclose(features, torch.tensor(expected))


def test_minimum_of_a_row_without_steps_is_infinite() -> None:
    steps = StepLogits(torch.tensor([2.0, -1.0, 3.0]), torch.tensor([0, 0, 2]))
    assert steps.minimum(3).tolist() == [-1.0, math.inf, 3.0]
