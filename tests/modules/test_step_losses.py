"""The losses of labelled steps, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mstar.models.step_head import StepLogits
from mstar.modules.step_losses import pairwise_loss, step_loss
from tests.modules.by_hand import softplus


def test_step_loss_by_hand() -> None:
    logits, labels = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.25, 0.0])
    terms = [softplus(-2.0), 0.25 * softplus(1.0) + 0.75 * softplus(-1.0), softplus(0.5)]
    assert float(step_loss(logits, labels)) == pytest.approx(sum(terms) / 3)

    right = softplus(-2.0) + 0.25 * softplus(1.0)
    wrong = 0.75 * softplus(-1.0) + softplus(0.5)
    assert float(step_loss(logits, labels, (2.0, 0.5))) == pytest.approx((2 * wrong + 0.5 * right) / 3)


def test_pairwise_loss_by_hand() -> None:
    # Rows 0, 1, 2 answer one prompt, row 3 another. Mean labels: 1.0, 0.5, 0.4, 0.0; lowest logits: 1, 0.5, -1, 9.
    steps = StepLogits(torch.tensor([1.0, 3.0, 0.5, 2.0, -1.0, 9.0]), torch.tensor([0, 0, 1, 1, 2, 3]))
    labels = torch.tensor([1.0, 1.0, 0.75, 0.25, 0.4, 0.0])
    group = torch.tensor([7, 7, 7, 8])
    # 0 over 1 and 0 over 2 differ by more than 0.15, 1 over 2 does not.
    expected = (softplus(-(1.0 - 0.5)) + softplus(-(1.0 - -1.0))) / 2
    assert float(pairwise_loss(steps, labels, group, 0.15)) == pytest.approx(expected)
    assert float(pairwise_loss(steps, labels, group, 0.05)) == pytest.approx((2 * expected + softplus(-1.5)) / 3)


def test_pairwise_loss_pulls_the_lowest_steps_of_a_pair_alone() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
    steps = StepLogits(logits, torch.tensor([0, 0, 1]))
    pairwise_loss(steps, torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 0]), 0.15).backward()
    pull = 1 / (1 + math.exp(1.0 - 2.0))
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx([-pull, 0.0, pull])


def test_without_pairs_the_pairwise_loss_is_zero_and_differentiable() -> None:
    logits = torch.tensor([1.0, -1.0], requires_grad=True)
    steps = StepLogits(logits, torch.tensor([0, 1]))
    loss = pairwise_loss(steps, torch.tensor([1.0, 0.0]), torch.tensor([0, 1]), 0.15)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert logits.grad.tolist() == [0.0, 0.0]
