"""The one decision about precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mstar.errors import ConfigError
from mstar.models.precision import Precision, allow_tensor_cores, choose_precision, resolve_dtype, warn_of_emulation

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("trainer", "weights", "expected", "says"),
    [
        ("32-true", F32, Precision(F32, F32), "float32 with weights in float32"),
        # The weights decide: Lightning converts nothing.
        ("32-true", BF16, Precision(BF16, BF16), "bfloat16 with weights in bfloat16"),
        ("bf16-mixed", F32, Precision(F32, BF16, mixed=True), "bfloat16 (autocast) with weights in float32"),
        ("16-mixed", F32, Precision(F32, F16, mixed=True), "float16 (autocast) with weights in float32"),
        # LoRA over 16-bit weights, and nf4.
        ("bf16-mixed", BF16, Precision(BF16, BF16, mixed=True), "bfloat16 (autocast) with weights in bfloat16"),
        ("bf16-true", F32, Precision(BF16, BF16), "bfloat16 with weights in bfloat16"),
        ("16-true", F32, Precision(F16, F16), "float16 with weights in float16"),
    ],
)
def test_what_follows_from_the_trainer(trainer: str, weights: torch.dtype, expected: Precision, says: str) -> None:
    assert Precision.of(trainer, weights) == expected
    assert str(expected) == says


def test_a_precision_that_nothing_else_could_share() -> None:
    with pytest.raises(ConfigError, match=r"precision 'transformer-engine' is not supported: choose one of 32-true,"):
        Precision.of("transformer-engine", F32)


def test_another_model_beside_it() -> None:
    mixed = Precision.of("bf16-mixed", F32)
    assert mixed.over(BF16) == Precision(BF16, BF16, mixed=True)
    assert Precision.of("32-true", F32).over(BF16) == Precision(BF16, BF16)
    assert Precision.of("32-true", BF16).over(F32) == Precision(F32, F32)


@pytest.mark.parametrize(
    ("trainer", "weights", "computed"),
    [("32-true", F32, F32), ("32-true", BF16, BF16), ("bf16-mixed", F32, BF16), ("16-mixed", F32, F16)],
)
def test_the_context_computes_in_that_type(trainer: str, weights: torch.dtype, computed: torch.dtype) -> None:
    layer = nn.Linear(4, 4).to(weights)
    precision = Precision.of(trainer, weights)
    with precision.context("cpu"):
        assert torch.is_autocast_enabled("cpu") == precision.autocasts
        assert layer(torch.ones(1, 4, dtype=weights)).dtype == computed
    assert not torch.is_autocast_enabled("cpu")


def test_a_change_of_the_weights_shows_at_once() -> None:
    """Autocast's own memory of converted weights would go on with the old ones until the context ends."""
    layer, ones = nn.Linear(8, 8, bias=False), torch.ones(1, 8)
    with Precision.of("bf16-mixed", F32).context("cpu"), torch.no_grad():
        before = layer(ones)
        layer.weight.mul_(2)
        assert torch.equal(layer(ones), 2 * before)
        with torch.enable_grad():
            layer(ones).float().sum().backward()
    assert layer.weight.grad is not None


def test_auto_is_16_bits_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_dtype("auto", "cpu") == "float32"
    assert resolve_dtype("float16", "cuda") == "float16"
    for supported, name in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, s=supported: s)
        assert resolve_dtype("auto", torch.device("cuda", 1)) == name


@pytest.mark.parametrize(
    ("supported", "given", "warned"),
    [(False, "bf16-true", True), (False, "16-mixed", False), (True, "bf16-mixed", False)],
)
def test_what_a_gpu_only_emulates_is_told_with_what_is_faster(
    supported: bool, given: str, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert choose_precision(given) == given
    said = f"trainer.precision is {given}, which this GPU only emulates: --trainer.precision 16-mixed is faster."
    assert caplog.messages == [said] * warned
    caplog.clear()
    warn_of_emulation("dtype", "bfloat16", "auto", "cpu")
    assert caplog.messages == []


def test_float32_runs_on_tensor_cores_on_cuda_alone() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        allow_tensor_cores("cpu")
        assert torch.get_float32_matmul_precision() == before
        allow_tensor_cores(torch.device("cuda", 0))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
