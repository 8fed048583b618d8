"""What people see of a training while they wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from mstar.callbacks import IterationCheckpoint
from mstar.callbacks.checkpoint import find_checkpoint
from mstar.callbacks.progress_bar import TrainingBar
from mstar.datamodules.resumable import ResumableLoader


class Line(LightningModule):
    """The smallest model that can be trained, in seven steps an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> ResumableLoader[Any]:
        return ResumableLoader(TensorDataset(torch.ones(7, 2)), batch_size=1)


def test_after_a_resume_within_an_epoch_the_bar_knows_epoch_and_total(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = []
    for limit in (10, 14):
        trainer = Trainer(
            accelerator="cpu", max_steps=limit, default_root_dir=tmp_path, logger=False, enable_model_summary=False,
            callbacks=[IterationCheckpoint(), TrainingBar()],
        )  # fmt: skip
        capsys.readouterr()
        trainer.fit(Line(), ckpt_path=find_checkpoint(tmp_path))
        bars.append("".join(capsys.readouterr()))
    assert "3/7" in bars[0]
    assert "Epoch 1:  57%" in bars[1]
    assert "4/7" in bars[1]
    assert "4/?" not in bars[1]
    assert "Epoch 1: 100%" in bars[1]
