"""A 16-bit engine after training: what tells one that has the present weights from one that kept the first ones."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch

from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.models import build_policy, real_config, small_config
from benchmarks.gpu_report.precision import BFLOAT16, EXACT, MIXED, Arithmetic, computing
from benchmarks.gpu_report.prompts import Rows
from benchmarks.gpu_report.training import GivenPolicy, StepClock, make_trainer
from mstar.datamodules import PolicyDataModule
from mstar.generation.drift import trainer_logprobs

STEPS: Final = (4, 12, 48)
ROWS: Final = 4


def run(bench: Bench) -> None:
    """Trains at M-STaR's rate, and compares after some steps."""
    shape = "internvl" if bench.small else "internvl3_2b"
    with bench.row(shape):
        policy = build_policy(small_config(shape) if bench.small else real_config(shape), torch.float32, bench.device)
        rows = Rows(8, policy, 8 if bench.small else 100)
        prompts, texts = list(rows)[:4], [prompt.rationale or "" for prompt in rows][:4]

        def logprobs(model: Any, arithmetic: Arithmetic) -> torch.Tensor:
            with computing(arithmetic, bench.device):
                found = trainer_logprobs(model, policy.renderer, prompts, texts)
            return torch.tensor([value for row in found for value in row])

        first = copy.deepcopy(policy.model).to(torch.bfloat16).eval()
        stale = logprobs(first, BFLOAT16)
        note(bench, f"{shape}, not trained", policy.model, first, logprobs, stale)
        module = GivenPolicy(policy)
        done = 0
        for steps in STEPS[:1] if bench.small else STEPS:
            trainer = make_trainer(bench, steps, bench.scratch, StepClock(bench))
            source = Rows(ROWS * steps, policy, 8 if bench.small else 100)
            trainer.fit(module, datamodule=PolicyDataModule(source, batch_size=ROWS, seed=done))
            done += steps
            note(bench, f"{shape}, after {done} steps at 1e-6", module.policy, first, logprobs, stale)


def note(bench: Bench, name: str, model: Any, first: Any, logprobs: Any, stale: torch.Tensor) -> None:
    """Compares the policy with a fresh copy in 16 bits and with the first one."""
    model.eval()
    present = copy.deepcopy(model).to(torch.bfloat16)
    changed = sum(int((a != b).sum()) for a, b in zip(present.parameters(), first.parameters(), strict=True))
    tensors = sum(not torch.equal(a, b) for a, b in zip(present.parameters(), first.parameters(), strict=True))
    total = sum(value.numel() for value in first.parameters())
    mixed, exact, engine = logprobs(model, MIXED), logprobs(model, EXACT), logprobs(present, BFLOAT16)
    model.train()

    def mean(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).abs().mean())

    bench.note(
        name,
        {
            "bf16-mixed policy, present engine": mean(mixed, engine),
            "bf16-mixed policy, first engine": mean(mixed, stale),
            "float32 policy, present engine": mean(exact, engine),
            "float32 policy, first engine": mean(exact, stale),
            "bfloat16 values changed, %": 100.0 * changed / total,
            "tensors changed": f"{tensors} of {len(list(first.parameters()))}",
        },
    )
