"""Loss kernels at the real width, and AdamW's two implementations."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

import torch
from torch import nn

from benchmarks.gpu_report.bench import Bench, LeftOut
from mstar.models.token_loss import LossKernel, mean_token_loss

KERNELS: Final[tuple[LossKernel, ...]] = ("torch", "chunked", "liger")
# Largest difference of a kernel's loss from torch's, whose own rounding of logits to 16 bits is as large.
_BOUND: Final = 2e-3


class Head(nn.Module):
    """What ``mean_token_loss`` asks of a model: its head."""

    def __init__(self, width: int, vocabulary: int, device: str) -> None:
        super().__init__()
        self.lm_head = nn.Linear(width, vocabulary, bias=False, device=device, dtype=torch.bfloat16)
        self.config: Any = None

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head


def run(bench: Bench) -> None:
    """Measures every kernel and both implementations."""
    losses(bench)
    for implementation in ("foreach", "fused"):
        with bench.row(f"AdamW {implementation}"):
            adamw(bench, implementation, 80_000 if bench.small else 2_000_000_000)


def losses(bench: Bench) -> None:
    """Every loss kernel on the same hidden states."""
    tokens, width, vocabulary = (64, 64, 2000) if bench.small else (4096, 3584, 152064)
    torch.manual_seed(0)
    head = Head(width, vocabulary, bench.device)
    hidden_NH = torch.randn(tokens, width, device=bench.device, dtype=torch.bfloat16, requires_grad=True)
    target_N = torch.randint(0, vocabulary, (tokens,), device=bench.device)
    expected: float | None = None

    def step(kernel: LossKernel) -> float:
        head.lm_head.weight.grad = hidden_NH.grad = None
        loss = mean_token_loss(head, hidden_NH, target_N, kernel)
        loss.backward()
        return float(loss)

    for kernel in KERNELS:
        name = f"loss {kernel}, {tokens} tokens x {vocabulary}"
        with bench.row(name):
            if kernel == "liger" and bench.device != "cuda":
                raise LeftOut("it runs on GPUs alone.")
            if kernel == "liger" and find_spec("liger_kernel") is None:
                raise LeftOut("liger-kernel is not installed.")
            head.lm_head.weight.grad = hidden_NH.grad = None
            before = bench.held_gb()
            found = bench.timed(lambda kernel=kernel: step(kernel))
            loss = step(kernel)
            expected = loss if expected is None else expected
            beyond = None if found.peak_gb is None or before is None else found.peak_gb - before
            bench.note(
                name,
                {"s": found.seconds, "peak GB": found.peak_gb, "beyond head and states GB": beyond, "loss": loss},
                problem=None if abs(loss - expected) < _BOUND else "the loss is not that of torch's kernel.",
            )


def adamw(bench: Bench, implementation: str, size: int) -> None:
    """One step of AdamW over so many weights in float32."""
    weights = [nn.Parameter(torch.zeros(size // 8, device=bench.device)) for _ in range(8)]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW(
        weights, lr=1e-6, foreach=implementation == "foreach", fused=implementation == "fused"
    )
    optimizer.step()
    before = bench.held_gb()
    found = bench.timed(optimizer.step)
    bench.note(
        f"AdamW {implementation}, {size:,} weights",
        {
            "s": found.seconds,
            "peak GB": found.peak_gb,
            "beyond weights and states GB": None if before is None or found.peak_gb is None else found.peak_gb - before,
        },
    )
