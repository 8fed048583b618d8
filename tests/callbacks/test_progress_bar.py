"""What people see of a training while they wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from mstar.__main__ import main
from mstar.callbacks import IterationCheckpoint
from mstar.callbacks.checkpoint import find_checkpoint
from mstar.callbacks.progress_bar import TrainingBar
from mstar.datamodules.resumable import ResumableLoader

CONFIGS = Path(__file__).parents[2] / "configs"


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


@pytest.mark.parametrize("shown", [True, False])
def test_without_a_training_bar_generation_scoring_and_the_retraining_have_none_either(
    shown: bool, warm_policy: Path, warm_mprm: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main([
        "fit", f"--config={CONFIGS / 'tiny' / 'evolve.yaml'}", f"--model.model_name={warm_policy}",
        f"--rollout.reward_model={warm_mprm}", "--rollout.temperature=1", "--rollout.dynamics=false",
        "--rollout.num_samples=2", "--rollout.refresh_reward_model.iterations=[2]",
        "--rollout.refresh_reward_model.prompts.size=16", "--rollout.refresh_reward_model.epochs=1",
        "--rollout.refresh_reward_model.annotation.unmixed_share=1", "--data.train.size=32", "--data.validation.size=4",
        "--trainer.max_epochs=2", f"--trainer.default_root_dir={tmp_path}",
        f"--trainer.enable_progress_bar={str(shown).lower()}",
    ])  # fmt: skip
    told = "".join(capfd.readouterr())
    assert (tmp_path / "policy").is_dir()
    bars = ("generate: ", "annotate: ", "score: ", "Epoch 0: ")
    assert [bar in told for bar in bars] == [shown] * 4, told
