"""Steps whose gradients are not numbers change nothing, and too many of them end the fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mstar.callbacks import finite_steps
from mstar.callbacks.finite_steps import FiniteSteps
from mstar.errors import ConfigError


class Module(LightningModule):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.layer = nn.Linear(1, 1)
        nn.init.ones_(self.layer.weight)
        self.after: list[tuple[float, float]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        # The gradient of a root at 0 is infinite although the loss is not.
        return (self.layer(batch["x"]).sum() + (batch["x"] * self.layer.weight).abs().sqrt().sum()).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=0.5)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        moments = self.trainer.optimizers[0].state.get(self.layer.weight, {})
        self.after.append((float(self.layer.weight.detach()), float(moments.get("step", 0))))


def fit(root: Path, inputs: list[float], lr: float = 0.1, **options: Any) -> tuple[Module, FiniteSteps]:
    module, callback = Module(lr), FiniteSteps()
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=root, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback], **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader([{"x": torch.tensor([x])} for x in inputs], batch_size=1))
    return module, callback


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_bad_step_changes_neither_weights_nor_the_optimizers_state(
    tmp_path: Path, bad: float, clip: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    module, callback = fit(tmp_path, [1.0, bad, 2.0, bad, bad, 3.0], gradient_clip_val=clip)
    assert module.after[1] == module.after[0]
    assert module.after[4] == module.after[3] == module.after[2] != module.after[1]
    assert [steps for _, steps in module.after] == [1, 1, 2, 2, 2, 3]
    assert callback.state_dict() == {"in_a_row": 0, "skipped": 3}
    assert module.trainer.callback_metrics["train/skipped_steps"] == 3
    assert "mstar: step 1 is skipped: its gradients are not finite numbers" in capsys.readouterr().err
    assert not (tmp_path / "nonfinite").exists()


def test_with_accumulation_one_bad_batch_spoils_its_step_alone(tmp_path: Path) -> None:
    module, callback = fit(tmp_path, [1.0, 2.0, float("nan"), 2.0, 1.0, 2.0], accumulate_grad_batches=2)
    assert [steps for _, steps in module.after] == [0, 1, 1, 1, 1, 2]
    assert callback.state_dict()["skipped"] == 1


def test_too_many_in_a_row_end_the_fit_and_leave_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite_steps, "_MOST_IN_A_ROW", 2)
    with pytest.raises(
        ConfigError, match=r"gradients of 2 steps in a row were not finite.*nonfinite/batch-000003-0\.pt"
    ):
        fit(tmp_path, [float("nan"), 1.0, float("nan"), float("nan"), 1.0])
    batch = torch.load(tmp_path / "nonfinite/batch-000003-0.pt", weights_only=True)
    assert torch.isnan(batch["x"]).all()


def test_the_row_goes_on_over_a_checkpoint() -> None:
    callback = FiniteSteps()
    callback.load_state_dict({"in_a_row": 4, "skipped": 9})
    assert callback.state_dict() == {"in_a_row": 4, "skipped": 9}


def test_weights_that_are_no_numbers_end_the_fit_at_the_next_step(tmp_path: Path) -> None:
    """Not after a few skipped steps, and not with the advice to look at the data."""
    with pytest.raises(ConfigError, match=r"weights are not finite numbers \('layer.weight' is the first\), so step 2"):
        fit(tmp_path, [1.0, 2.0, 3.0], lr=torch.inf)
    assert not (tmp_path / "nonfinite").exists()
