"""Losses of the MPRM.

Shapes: B rows (responses), N the steps of all rows in order.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from mstar.datamodules.step_label_batches import StepLabelBatch
from mstar.models.step_head import StepLogits

LabelKind = Literal["soft", "hard"]


def step_loss(logits_N: Tensor, labels_N: Tensor, class_weights: tuple[float, float] | None = None) -> Tensor:
    """Mean binary cross-entropy of the steps, with soft or hard labels; 0 without any step.

    Args:
        logits_N: One logit a step.
        labels_N: The share, in [0, 1], of right continuations.
        class_weights: What the wrong and the right share of a step weigh; None for 1 each.
    """
    if not len(labels_N):
        # A judge may leave a small batch without any label, whose mean would be no number.
        return logits_N.sum()
    if class_weights is None:
        return binary_cross_entropy_with_logits(logits_N, labels_N)
    wrong, right = class_weights
    right_N, wrong_N = labels_N * softplus(-logits_N), (1 - labels_N) * softplus(logits_N)
    return (right * right_N + wrong * wrong_N).mean()


def pairwise_loss(steps: StepLogits, labels_N: Tensor, group_B: Tensor, margin: float) -> Tensor:
    """Asks of two responses to one prompt that the one with the better labels has the higher minimum.

    The mean of softplus(-(lowest logit of the better - lowest logit of the worse)) over all pairs of one prompt in the
    batch whose mean step labels differ by more than the margin; 0 without such a pair.

    Args:
        steps: The logits; every row has at least one step.
        labels_N: One label a step.
        group_B: Equal for rows of one prompt.
        margin: Smallest difference of the mean labels that counts.
    """
    lowest_B = steps.minimum(len(group_B))
    better_P, worse_P = find_pairs(labels_N, steps.row_N, group_B, margin)
    losses_P = softplus(lowest_B[worse_P] - lowest_B[better_P])
    return losses_P.sum() / max(len(losses_P), 1)


def find_pairs(labels_N: Tensor, row_N: Tensor, group_B: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """The better and the worse row (P,) of the pairs that ``pairwise_loss`` compares."""
    zeros_B = labels_N.new_zeros(len(group_B))
    counts_B = zeros_B.index_add(0, row_N, torch.ones_like(labels_N))
    mean_B = zeros_B.index_add(0, row_N, labels_N) / counts_B
    ranked_BB = (group_B[:, None] == group_B[None, :]) & (mean_B[:, None] - mean_B[None, :] > margin)
    better_P, worse_P = ranked_BB.nonzero(as_tuple=True)
    return better_P, worse_P


def count_terms(kind: LabelKind, margin: float, batch: StepLabelBatch) -> tuple[int, int]:
    """How many labelled steps a batch has, and how many pairs."""
    labels_N = batch.soft_N if kind == "soft" else batch.hard_N
    steps_B = torch.tensor([len(ends) for ends in batch.responses.step_ends])
    row_N = torch.repeat_interleave(torch.arange(len(steps_B)), steps_B)
    if (labelled_N := batch.labelled_N) is not None:
        labels_N, row_N = labels_N[labelled_N], row_N[labelled_N]
    return len(labels_N), len(find_pairs(labels_N, row_N, batch.group_B, margin)[0])
