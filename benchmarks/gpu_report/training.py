"""A real fit of the policy with a model that is there already, and what its steps took.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.flops import Work, work_of
from benchmarks.gpu_report.models import Policy
from mstar.models.lora import LoraSettings
from mstar.models.token_loss import LossKernel
from mstar.models.trained_part import prepare_training
from mstar.modules import PolicyModule
from mstar.rendering import ResponseInputs

__all__ = ["GivenPolicy", "StepClock", "make_trainer"]


class GivenPolicy(PolicyModule):
    """The policy module with a model that is made, not loaded.

    Args:
        policy: The model; it is trained in place.
        lora: As for ``PolicyModule``.
        packing: As for ``PolicyModule``.
        loss_kernel: As for ``PolicyModule``.
        gradient_checkpointing: As for ``PolicyModule``.
        lr: Learning rate; the default is M-STaR's.
    """

    def __init__(
        self,
        policy: Policy,
        lora: LoraSettings | None = None,
        packing: bool = False,
        loss_kernel: LossKernel = "chunked",
        gradient_checkpointing: bool = True,
        lr: float = 1e-6,
    ) -> None:
        weights = str(next(policy.model.parameters()).dtype).removeprefix("torch.")
        super().__init__(
            "made for the report", lr=lr, dtype=weights, lora=lora, packing=packing, loss_kernel=loss_kernel,
            gradient_checkpointing=gradient_checkpointing,
        )  # fmt: skip
        self._given = [policy.model]  # in a list, so that it is no second child of the module
        self._renderer = policy.renderer

    def load_backbone(self, seed: int = 0) -> Any:
        """The given model, made ready for training."""
        model = self._given[0].train()
        prepare_training(model, self.freeze_parts, self.lora, self.gradient_checkpointing, self.seed)
        return model


class StepClock(Callback):
    """Times the steps of a fit, each until the device has done its work.

    Args:
        bench: Whose clock it is.
        skipped: Steps at the beginning that do not count.
    """

    def __init__(self, bench: Bench, skipped: int = 2) -> None:
        self.bench = bench
        self.skipped = skipped
        self.seconds: list[float] = []
        self.work: list[Work] = []
        self.losses: list[float] = []
        self.held_gb: float | None = None
        self.peak_gb: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Starts the clock; the peak is that of the steps that count."""
        if batch_idx == self.skipped and self.bench.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.bench.synchronize()
        self._begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ResponseInputs, batch_idx: int
    ) -> None:
        """Stops it."""
        self.bench.synchronize()
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        if batch_idx >= self.skipped:
            self.seconds.append(time.perf_counter() - self._begin)
            self.work.append(work_of(pl_module.policy, batch))  # type: ignore[operator,arg-type]
            self.peak_gb, self.held_gb = self.bench.peak_gb(), self.bench.held_gb()


def make_trainer(bench: Bench, steps: int, folder: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    """A trainer on the bench's device.

    Args:
        bench: The device.
        steps: Optimizer steps.
        folder: Its root.
        callbacks: Its callbacks.
        settings: Further arguments of Lightning's own.
    """
    return Trainer(
        accelerator="gpu" if bench.device == "cuda" else "cpu", devices=1, max_steps=steps, logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, callbacks=list(callbacks),
        **{"precision": "bf16-mixed", "enable_checkpointing": False, **settings},
    )  # fmt: skip
