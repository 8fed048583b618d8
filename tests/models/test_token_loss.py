"""The loss of tokens in bounded memory: equal to the plain one, in value and in gradients."""

from __future__ import annotations

import copy
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mstar.errors import ConfigError, MissingExtraError
from mstar.models import token_loss
from mstar.models.families import language_head
from mstar.models.token_loss import LossKernel, check_loss_kernel, mean_token_loss, token_losses
from mstar.modules import PolicyModule

TOKENS = 23


@pytest.fixture
def model(split: Any) -> Any:
    """A model whose head has weights of its own."""
    return copy.deepcopy(split.model)


@pytest.fixture
def rows(model: Any) -> tuple[Tensor, Tensor]:
    """Hidden states and the tokens that they predict."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, model.config.text_config.hidden_size, generator=generator)
    return hidden, torch.randint(0, 300, (TOKENS,), generator=generator)


def run(model: Any, hidden: Tensor, target: Tensor, kernel: LossKernel) -> tuple[Tensor, Tensor, Tensor]:
    leaf = hidden.clone().requires_grad_()
    model.zero_grad()
    loss = mean_token_loss(model, leaf, target, kernel)
    (3 * loss).backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad, language_head(model).weight.grad


@pytest.mark.parametrize("size", [1, 5, 22])
def test_chunks_give_the_same_loss_and_gradients(
    model: Any, rows: tuple[Tensor, Tensor], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run(model, *rows, "torch")
    vocabulary = language_head(model).weight.shape[0]
    monkeypatch.setattr(token_loss, "MOST_LOGITS", size * vocabulary)
    seen: list[int] = []
    language_head(model).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[0]))
    for value, other in zip(run(model, *rows, "chunked"), wanted, strict=True):
        torch.testing.assert_close(value, other, atol=1e-6, rtol=1e-5)
    # Once forward and once again in the backward pass, never more than a chunk of logits at a time.
    assert max(seen) == size
    assert sum(seen) == 2 * TOKENS
    assert wanted[2].abs().sum() > 0


def test_the_peak_of_memory_is_bounded(
    model: Any, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = language_head(model).weight.shape[0]
    hidden, target = rows

    def saved(kernel: LossKernel) -> int:
        sizes = []

        def pack(value: Tensor) -> Tensor:
            sizes.append(value.numel() if value.shape[-1:] == (vocabulary,) else 0)
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            mean_token_loss(model, hidden.clone().requires_grad_(), target, kernel)
        return sum(sizes)

    monkeypatch.setattr(token_loss, "MOST_LOGITS", 4 * vocabulary)
    assert saved("torch") >= TOKENS * vocabulary
    assert saved("chunked") == 0


def test_few_tokens_take_the_plain_path(model: Any, rows: tuple[Tensor, Tensor]) -> None:
    one, two = (run(model, *rows, kernel) for kernel in ("torch", "chunked"))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("size", [4, 100])
def test_losses_of_single_tokens(
    model: Any, rows: tuple[Tensor, Tensor], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, target = rows
    wanted = cross_entropy(language_head(model)(hidden).float(), target, reduction="none")
    monkeypatch.setattr(token_loss, "MOST_LOGITS", size * language_head(model).weight.shape[0])
    torch.testing.assert_close(token_losses(model, hidden, target), wanted)
    with torch.inference_mode():
        torch.testing.assert_close(token_losses(model, hidden, target), wanted)


def test_liger_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loss, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'liger' needs the package 'liger-kernel'.*mstar\[liger\]"):
        PolicyModule("mstar/tiny-idefics3", loss_kernel="liger")
    check_loss_kernel("chunked")


def test_liger_runs_on_gpus_only(model: Any, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loss, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="'liger' runs on CUDA devices only: choose chunked"):
        mean_token_loss(model, *rows, "liger")


def test_what_liger_is_given(model: Any, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the signature of liger-kernel 0.8."""

    def fused(
        input: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None = None, ce_weight: None = None,
        ignore_index: int = -100, lse_square_scale: float = 0.0, label_smoothing: float = 0.0, reduction: str = "mean",
        softcap: float | None = None, return_z_loss: bool = False, accum_dtype: torch.dtype | None = None,
    ) -> Tensor:  # fmt: skip
        assert accum_dtype == torch.float32
        return cross_entropy(torch.nn.functional.linear(input, weight, bias).float(), target, reduction=reduction)

    functional = ModuleType("liger_kernel.transformers.functional")
    functional.liger_fused_linear_cross_entropy = fused  # type: ignore[attr-defined]
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.functional", functional)
    monkeypatch.setattr(token_loss, "find_spec", lambda name: object())
    monkeypatch.setattr(Tensor, "is_cuda", True)
    got = run(model, *rows, "liger")
    monkeypatch.undo()
    for value, other in zip(got, run(model, *rows, "torch"), strict=True):
        torch.testing.assert_close(value, other)
