"""One checkpoint an iteration, beside the iterations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from mstar.callbacks import IterationCheckpoint


def fit(root: Path, checkpoint: IterationCheckpoint, epochs: int = 3, ckpt_path: str | None = None) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, limit_train_batches=2, limit_val_batches=0, callbacks=[checkpoint],
        default_root_dir=root, logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(BoringModel(), ckpt_path=ckpt_path)
    return trainer


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        (IterationCheckpoint(), ["iteration-0003.ckpt", "last.ckpt"]),
        (IterationCheckpoint(keep_all=True), [f"iteration-000{i}.ckpt" for i in (1, 2, 3)] + ["last.ckpt"]),
        (IterationCheckpoint(keep_all=True, every=2), ["iteration-0002.ckpt", "last.ckpt"]),
    ],
)
def test_which_checkpoints_are_kept(tmp_path: Path, checkpoint: IterationCheckpoint, expected: list[str]) -> None:
    fit(tmp_path, checkpoint)
    assert names(tmp_path) == expected


def test_the_last_checkpoint_is_that_of_the_last_iteration(tmp_path: Path) -> None:
    fit(tmp_path, IterationCheckpoint())
    last, third = (
        torch.load(tmp_path / f"checkpoints/{n}.ckpt", weights_only=True) for n in ("last", "iteration-0003")
    )
    assert last["epoch"] == third["epoch"] == 2
    assert last["global_step"] == 6


def test_last_is_found_before_the_fit_is_set_up(tmp_path: Path) -> None:
    fit(tmp_path, IterationCheckpoint(), epochs=1)
    resumed = fit(tmp_path, IterationCheckpoint(), epochs=2, ckpt_path="last")
    assert resumed.global_step == 4
    again = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert again["epoch"] == 1
