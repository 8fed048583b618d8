"""Losses of methods that learn from every sample, by token.

Shapes: B rows (responses), N response tokens of all rows in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from mstar.datamodules.step_batches import Credit
from mstar.selection import PolicyGradient, SampleMethod

__all__ = ["Objective", "SampleLosses", "sample_losses"]

# Ratios that stay finite in 32 bits, whatever the policy has come to.
_LARGEST: Final = 20.0


@dataclass(frozen=True, slots=True)
class Objective:
    """What the policy learns from samples by."""

    method: SampleMethod
    settings: PolicyGradient


@dataclass(frozen=True, slots=True)
class SampleLosses:
    """The losses of a batch's tokens, and what they say of the policy's way from that which drew them.

    Attributes:
        loss_N: The losses; their sum is divided by the tokens (or responses, see ``PolicyGradient.level``) of the step.
        ratio_N: The ratio of each token's present probability to that when it was sampled; no gradient.
        clipped_N: Whether a token's loss is clipped: it has no gradient (nft: the floor took the ratio's place).
        kl_N: An estimate of the divergence of the present policy from the sampling one: its mean over tokens that the
            latter drew is unbiased, and it is never below 0 (Schulman's k3).
    """

    loss_N: Tensor
    ratio_N: Tensor
    clipped_N: Tensor
    kl_N: Tensor


def sample_losses(logprob_N: Tensor, credit: Credit, objective: Objective) -> SampleLosses:
    """The losses of sampled tokens.

    With R the ratio of a token's present probability to that when it was sampled, A the response's advantage and w its
    weight (``mstar.selection.advantages``):

    - grpo, reinforce_rej: -min(R A, clip(R, 1 - clip_low, 1 + clip_high) A). On a level of sequences R is the geometric
      mean of the response's ratios, and the loss is shared out over its tokens.
    - nft: -w log R for right responses, and for wrong ones -w log max((1 - p R) / (1 - p), negative_floor), the ratio
      of the policy that writes the wrong ones if the right ones are written by the present policy and both together by
      the sampling one, with p the share of right ones. The maximum passes its gradient through. With A as in grpo,
      p / (1 - p) is -A / w, so that (1 - p R) / (1 - p) is 1 + (R - 1) A / w.

    At R = 1 every loss has the gradient -A grad log R.
    """
    settings = objective.settings
    row_N = torch.repeat_interleave(credit.length_B, output_size=len(logprob_N))
    advantage_N = credit.advantage_B[row_N]
    log_ratio_N = (logprob_N - credit.logprob_N).clamp(-_LARGEST, _LARGEST)
    ratio_N = log_ratio_N.exp()
    kl_N = ratio_N - 1 - log_ratio_N
    share_N = torch.ones_like(ratio_N)
    if objective.method == "nft":
        weight_N = credit.weight_B[row_N]
        negative_N = 1 + (ratio_N - 1) * advantage_N / weight_N
        clipped_N = (advantage_N < 0) & (negative_N < settings.negative_floor)
        floored_N = negative_N + (negative_N.clamp(min=settings.negative_floor) - negative_N).detach()
        # Of a right response, whose part of the other branch may have no logarithm, nothing must reach the gradient.
        floored_N = torch.where(advantage_N < 0, floored_N, 1.0)
        loss_N = -weight_N * torch.where(advantage_N < 0, floored_N.log(), log_ratio_N)
    else:
        if settings.level == "sequence":
            # Of a number and integers the quotient would have the default type, which bf16-true makes one of 16 bits.
            share_N = share_N / credit.length_B[row_N]
            mean_B = log_ratio_N.new_zeros(len(credit.length_B)).index_add(0, row_N, log_ratio_N * share_N)
            ratio_N = mean_B[row_N].exp()
        bounded_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high)
        loss_N = -torch.minimum(ratio_N * advantage_N, bounded_N * advantage_N)
        clipped_N = ratio_N * advantage_N > bounded_N * advantage_N
    if settings.kl_weight > 0:
        loss_N = loss_N + settings.kl_weight * kl_N
    return SampleLosses(loss_N * share_N, ratio_N.detach(), clipped_N, kl_N.detach())
