"""Supervised fine-tuning of all weights: tokens a second, MFU and peak memory, padded and packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.estimates import training_gb
from benchmarks.gpu_report.flops import flops_of
from benchmarks.gpu_report.machine import peak_flops
from benchmarks.gpu_report.models import Policy, build_policy, num_parameters, real_config, small_config
from benchmarks.gpu_report.prompts import Rows
from benchmarks.gpu_report.training import GivenPolicy, StepClock, make_trainer
from mstar.datamodules import PolicyDataModule

STEPS: Final = 5


@dataclass(frozen=True)
class Case:
    """One fit: rows of a batch, whether it is packed, whether rows have pictures."""

    rows: int
    packing: bool
    pictures: bool = True


CASES: Final = (
    Case(2, False),
    Case(8, False),
    Case(8, True),
    Case(16, False, pictures=False),
    Case(16, True, pictures=False),
)


def run(bench: Bench) -> None:
    """Fits a 2B model once for each case; its weights go on from case to case, which changes no speed."""
    shape = "internvl" if bench.small else "internvl3_2b"
    config = small_config(shape) if bench.small else real_config(shape)
    policy: Policy | None = None
    with bench.row(shape):
        policy = build_policy(config, torch.float32, bench.device)
    if policy is None:
        return
    for case in CASES[1:3] if bench.small else CASES:
        kind = "packed" if case.packing else "padded"
        name = f"{shape}, batches of {case.rows}{'' if case.pictures else ' without pictures'}, {kind}"
        with bench.row(name):
            module = GivenPolicy(policy, packing=case.packing)
            measure(bench, name, module, policy, case.rows, case.pictures)


def measure(
    bench: Bench, name: str, module: GivenPolicy, policy: Policy, rows: int, pictures: bool = True
) -> StepClock:
    """Fits a few steps and writes down what they took."""
    clock = StepClock(bench)
    source = Rows(rows * (STEPS + clock.skipped), policy, 8 if bench.small else 200, pictures)
    trainer = make_trainer(bench, STEPS + clock.skipped, bench.scratch, clock)
    trainer.fit(module, datamodule=PolicyDataModule(source, batch_size=rows))
    seconds, tokens = sum(clock.seconds), sum(work.tokens for work in clock.work)
    rate = sum(flops_of(module.policy, work) for work in clock.work) / seconds
    peak = peak_flops(torch.cuda.get_device_name()) if bench.device == "cuda" else None
    bench.note(
        name,
        {
            "weights, 10^9": num_parameters(module.policy) / 1e9,
            "rows": rows,
            "tokens a step": tokens // len(clock.work),
            "padding, %": 100.0 * (1 - tokens / sum(work.padded for work in clock.work)),
            "s a step": seconds / len(clock.seconds),
            "tokens/s": tokens / seconds,
            "TFLOP/s": rate / 1e12,
            "MFU, %": None if peak is None else 100.0 * rate / peak,
            "between steps GB": clock.held_gb,
            "peak GB": clock.peak_gb,
            "`mstar memory` GB": training_gb(
                bench,
                Policy(module.policy, policy.renderer),
                source,
                rows=rows,
                lora=module.lora,
                dtype=module.dtype_name,
            ),
            "last loss": clock.losses[-1],
        },
        problem=None if all(loss == loss for loss in clock.losses) else "the loss is not a number.",
    )
    return clock
