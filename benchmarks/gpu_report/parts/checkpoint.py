"""Checkpoints: what the end of an iteration writes, how long it takes, and going on from it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch import LightningModule, Trainer

from benchmarks.gpu_report.bench import Bench, LeftOut
from benchmarks.gpu_report.models import Policy, build_policy, num_parameters, real_config, small_config
from benchmarks.gpu_report.prompts import Rows
from benchmarks.gpu_report.training import GivenPolicy, StepClock, make_trainer
from mstar.callbacks import IterationCheckpoint
from mstar.callbacks.checkpoint import find_checkpoint
from mstar.datamodules import PolicyDataModule

ROWS: Final = 2
_BYTES: Final = 12  # a weight and AdamW's two states in float32


class TimedCheckpoint(IterationCheckpoint):
    """The callback of every run, with a clock."""

    seconds: float = 0.0
    first: float = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The weights are those of the checkpoint now."""
        super().on_train_start(trainer, pl_module)
        self.first = _fingerprint(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, and says how long it took."""
        begin = time.perf_counter()
        super().on_train_epoch_end(trainer, pl_module)
        self.seconds = time.perf_counter() - begin


def run(bench: Bench) -> None:
    """Saves, exports, and goes on with a new model."""
    shape = "internvl" if bench.small else "internvl3_2b"
    config = small_config(shape) if bench.small else real_config(shape)
    folder = bench.scratch / "run"
    name, last, wanted = f"{shape}, all weights", None, 0.0
    with bench.row(name):
        policy = build_policy(config, torch.float32, bench.device)
        size = num_parameters(policy.model) * (_BYTES + 4)
        if shutil.disk_usage(bench.scratch).free < 1.2 * size:
            raise LeftOut(f"the disk has no {1.2 * size / 1e9:.0f} GB free.")
        module, saved = GivenPolicy(policy), TimedCheckpoint()
        fit(bench, folder, policy, module, saved, 1, None)
        last, wanted = find_checkpoint(folder), _fingerprint(module)
        size, weights = _size(folder), num_parameters(policy.model)
        bench.note(
            f"{name}, saved",
            {
                "s": saved.seconds,
                "GB": size / 1e9,
                "GB/s": size / 1e9 / saved.seconds,
                "bytes a weight": size / weights,
            },
        )
        with bench.measured() as exporting:
            module.export(bench.scratch / "exported")
        size = _size(bench.scratch / "exported")
        bench.note(
            f"{name}, exported",
            {
                "s": exporting.seconds,
                "GB": size / 1e9,
                "GB/s": size / 1e9 / exporting.seconds,
                "bytes a weight": size / weights,
            },
        )
        shutil.rmtree(bench.scratch / "exported")
        del policy, module
    if last is not None:
        with bench.row(f"{name}, gone on with"):
            policy, resumed = build_policy(config, torch.float32, bench.device, seed=1), TimedCheckpoint(every=10**6)
            begin = time.perf_counter()
            fit(bench, folder, policy, GivenPolicy(policy), resumed, 2, last)
            bench.note(
                f"{name}, gone on with",
                {"s": time.perf_counter() - begin},
                problem=None if resumed.first == wanted else "the weights are not those that were saved.",
            )
    shutil.rmtree(folder, ignore_errors=True)


def fit(
    bench: Bench,
    folder: Path,
    policy: Policy,
    module: GivenPolicy,
    saving: TimedCheckpoint,
    epochs: int,
    start: Path | None,
) -> None:
    """Fits up to the end of an epoch of two steps."""
    data = PolicyDataModule(Rows(2 * ROWS, policy, 8 if bench.small else 100), batch_size=ROWS)
    settings: dict[str, Any] = {"max_epochs": epochs, "enable_checkpointing": True}
    trainer = make_trainer(bench, -1, folder, StepClock(bench), saving, **settings)
    trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)


def _fingerprint(module: Any) -> float:
    """A number that depends on all trained weights."""
    return sum(float(value.detach().double().abs().sum()) for value in module.policy.parameters())


def _size(folder: Path) -> int:
    """Bytes on the disk; files that share their content count once."""
    files = {
        (stat.st_dev, stat.st_ino): stat.st_size
        for stat in (path.stat() for path in folder.rglob("*") if path.is_file())
    }
    return sum(files.values())
