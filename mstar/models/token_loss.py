"""Losses of tokens from hidden states, without ever holding the logits of all of them.

With a vocabulary of 150,000 the logits are the peak of memory: 4 bytes x tokens x vocabulary, several times over.
Shapes: N tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from mstar.errors import ConfigError, MissingExtraError
from mstar.models.families import family_of, language_head
from mstar.models.prefix import logits_of

LossKernel = Literal["torch", "chunked", "liger"]

# Logits that exist at the same time: 512 MiB in float32.
MOST_LOGITS: Final = 2**27


def check_loss_kernel(kernel: LossKernel) -> None:
    """Checks that a loss kernel can be used (else ``MissingExtraError``)."""
    if kernel == "liger" and find_spec("liger_kernel") is None:
        raise MissingExtraError("liger-kernel", "liger", "model.loss_kernel 'liger'")


def mean_token_loss(model: nn.Module, hidden_NH: Tensor, target_N: Tensor, kernel: LossKernel = "chunked") -> Tensor:
    """The mean cross-entropy of tokens.

    Args:
        hidden_NH: The hidden state that predicts each token.
        kernel: torch holds all logits at once; chunked a bounded number, and computes them again in the backward pass;
            liger fuses head and loss in one kernel (CUDA only). Loss and gradients are the same up to rounding.
    """
    if kernel == "liger":
        return _liger_loss(model, hidden_NH, target_N)
    if kernel == "torch" or _chunk_size(model) >= len(target_N):
        return cross_entropy(logits_of(model, hidden_NH), target_N)
    return token_losses(model, hidden_NH, target_N).mean()


def token_losses(model: nn.Module, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
    """The cross-entropy of every token (N,), computed a bounded number of tokens at a time."""
    size = _chunk_size(model)
    if size >= len(target_N):
        return _losses(model, hidden_NH, target_N)
    again = torch.is_grad_enabled()
    return torch.cat(
        [
            # What is kept for the backward pass of a chunk are its hidden states alone.
            checkpoint(_losses, model, hidden, target, use_reentrant=False, preserve_rng_state=False)
            if again
            else _losses(model, hidden, target)
            for hidden, target in zip(torch.split(hidden_NH, size), torch.split(target_N, size), strict=True)
        ]
    )


def _losses(model: nn.Module, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
    return cross_entropy(logits_of(model, hidden_NH), target_N, reduction="none")


def _chunk_size(model: nn.Module) -> int:
    head: Any = language_head(model)
    return max(1, MOST_LOGITS // int(head.weight.shape[0]))


def _liger_loss(model: nn.Module, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
    if not hidden_NH.is_cuda:
        raise ConfigError("model.loss_kernel 'liger' runs on CUDA devices only: choose chunked.")
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    head: Any = language_head(model)
    weight, bias = head.weight, getattr(head, "bias", None)
    after = family_of(model).after_head(model)
    if after.size is not None:
        weight, bias = weight[: after.size], None if bias is None else bias[: after.size]
    if after.scale != 1.0:
        hidden_NH, bias = hidden_NH * after.scale, None if bias is None else bias * after.scale
    # Gradients of the head are summed over chunks; in 16 bits small ones would be lost.
    loss: Tensor = liger_fused_linear_cross_entropy(
        hidden_NH, weight, target_N, bias=bias, softcap=after.cap, accum_dtype=torch.float32
    )
    return loss
