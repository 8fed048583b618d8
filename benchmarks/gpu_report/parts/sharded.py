"""FSDP2 with one process: its losses are those of a plain fit, and its speed, memory and generation within a fit."""

from __future__ import annotations

from typing import Any, Final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.gpu_report.bench import Bench, Measured
from benchmarks.gpu_report.models import build_policy, endless, real_config, small_config
from benchmarks.gpu_report.prompts import Rows, make_prompts
from benchmarks.gpu_report.training import GivenPolicy, StepClock, make_trainer
from mstar.datamodules import PolicyDataModule
from mstar.generation import Request, TransformersEngine, plan_samples
from mstar.trainer import ShardedStrategy

STEPS: Final = 4
ROWS: Final = 2
_BOUND: Final = 1e-4


class Rollout(Callback):
    """Generates with whole weights between two steps.

    Args:
        bench: Whose clock it is.
        requests: What is generated.
        tokens: Longest response.
    """

    def __init__(self, bench: Bench, requests: list[Request], tokens: int) -> None:
        self.bench = bench
        self.requests = requests
        self.engine = TransformersEngine(tokens, batch_size=256, progress=False)
        self.found = Measured()
        self.tokens = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Generates after the second step."""
        if batch_idx == 1:
            with self.bench.measured() as self.found:
                module: Any = pl_module
                self.engine.start(module.policy, module.renderer)
                self.engine.update_weights(module.policy)
                drawn = self.engine.generate(self.requests)
                self.engine.rest()
            self.tokens = sum(response.num_tokens for row in drawn for response in row)


def run(bench: Bench) -> None:
    """First that it computes the same, on a small model; then what it takes, on a real one."""
    with bench.row("small internvl, losses in float32"):
        losses = [fit(bench, "internvl", True, sharded)[0].losses for sharded in (False, True)]
        worst = max(abs(a - b) for a, b in zip(*losses, strict=True))
        bench.note(
            "small internvl, losses in float32",
            {f"largest difference from a plain fit (at most {_BOUND:g})": worst},
            problem=None if worst <= _BOUND else "the losses are not those of a plain fit.",
        )
    shape = "internvl" if bench.small else "internvl3_2b"
    with bench.row(f"{shape}, bf16-mixed"):
        clock, rollout = fit(bench, shape, bench.small, True, precision="bf16-mixed")
        tokens = sum(work.tokens for work in clock.work)
        bench.note(
            f"{shape}, bf16-mixed",
            {
                "s a step": sum(clock.seconds) / len(clock.seconds),
                "tokens/s": tokens / sum(clock.seconds),
                "between steps GB": clock.held_gb,
                "peak GB": clock.peak_gb,
                "generated tokens/s, weights put together and taken apart": rollout.tokens / rollout.found.seconds,
                "peak of generating GB": rollout.found.peak_gb,
            },
            problem=None if all(loss == loss for loss in clock.losses) else "the loss is not a number.",
        )


def fit(bench: Bench, shape: str, small: bool, sharded: bool, precision: str = "32-true") -> tuple[StepClock, Rollout]:
    """A fit with a rollout after its second step; the same weights and rows whether it is sharded or not."""
    policy = endless(build_policy(small_config(shape) if small else real_config(shape), torch.float32, bench.device))
    requests = [Request(p, plan_samples(0, "report", p.id, 16, 1.0)) for p in make_prompts(2, policy)]
    clock, rollout = StepClock(bench), Rollout(bench, requests, 4 if small else 32)
    settings: dict[str, Any] = {"strategy": ShardedStrategy()} if sharded else {}
    trainer = make_trainer(bench, STEPS, bench.scratch, clock, rollout, precision=precision, **settings)
    source = Rows(ROWS * STEPS, policy, 8 if small else 200)
    trainer.fit(GivenPolicy(policy, lr=1e-3 if small else 1e-6), datamodule=PolicyDataModule(source, batch_size=ROWS))
    return clock, rollout
