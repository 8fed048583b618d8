"""Weights that are no numbers are neither saved nor exported nor sampled from, and the user is told so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mstar.__main__ import main


class Spoil(Callback):
    """Makes one weight of an epoch's last step infinite, or a moment of the optimizer."""

    def __init__(self, moment: bool = False) -> None:
        self.moment = moment

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.is_last_batch and trainer.current_epoch == 1:
            parameter = next(pl_module.parameters())
            spoilt = trainer.optimizers[0].state[parameter]["exp_avg"] if self.moment else parameter.detach()
            spoilt.view(-1)[3] = torch.inf


@pytest.fixture
def supervised(evolve: Any) -> str:
    """The configuration of supervised training for two epochs of two steps."""
    settings = evolve.settings()
    del settings["rollout"], settings["data"]["init_args"]["validation"]
    settings["data"]["init_args"]["train"]["init_args"] = {"split": "seed", "size": 8}
    return str(evolve.write(settings))


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("moment", ["false", "true"])
def test_what_is_not_finite_is_not_saved(
    evolve: Any, supervised: str, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--trainer.callbacks+={__name__}.Spoil", f"--trainer.callbacks.moment={moment}"]
    assert main(["fit", "--config", supervised, *flags]) == 1
    said = last_line(capsys)
    assert said.startswith("mstar fit: error: the weights are not finite numbers ('")
    assert "is the first), so no checkpoint is written: go on from a checkpoint of before" in said
    root = evolve.folder / "run"
    assert sorted(path.name for path in (root / "checkpoints").iterdir()) == ["iteration-0001.ckpt", "last.ckpt"]
    assert not (root / "policy").exists()
    # The run goes on from the epoch before.
    assert main(["fit", "--config", supervised]) == 0
    assert torch.load(root / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4


def test_what_is_not_finite_is_neither_exported_nor_sampled(
    evolve: Any, supervised: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", supervised, "--trainer.max_epochs", "1"]) == 0
    path = evolve.folder / "run/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    name = "model.model.text_model.norm.weight"
    content["state_dict"][name][0] = torch.nan
    torch.save(content, tmp_path / "bad.ckpt")
    assert main(["export", "--checkpoint", str(tmp_path / "bad.ckpt"), "--output", str(tmp_path / "out")]) == 1
    assert f"('{name}' is the first), so nothing is exported" in last_line(capsys)
    assert not (tmp_path / "out").exists()
    for command in ("test", "predict"):
        assert main([command, "--config", supervised, "--ckpt_path", str(tmp_path / "bad.ckpt")]) == 1
        assert f"('{name.removeprefix('model.')}' is the first), so the policy cannot write" in last_line(capsys)
    content["state_dict"][name][0] = 1e6
    torch.save(content, tmp_path / "large.ckpt")
    given = ["export", "--checkpoint", str(tmp_path / "large.ckpt"), "--output", str(tmp_path / "out")]
    assert main([*given, "--dtype", "float16"]) == 1
    assert "not all finite numbers in the type of the export" in last_line(capsys)
    assert not (tmp_path / "out").exists()
    assert main([*given, "--dtype", "bfloat16"]) == 0


def test_logits_that_overflow_are_told_from_weights_that_do(
    evolve: Any, supervised: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", supervised, "--trainer.max_epochs", "1"]) == 0
    content = torch.load(evolve.folder / "run/checkpoints/last.ckpt", weights_only=True)
    content["state_dict"]["model.model.text_model.norm.weight"][:] = 3e38
    torch.save(content, tmp_path / "large.ckpt")
    capsys.readouterr()
    assert main(["predict", "--config", supervised, "--ckpt_path", str(tmp_path / "large.ckpt")]) == 1
    assert "the policy's logits are not finite numbers although its weights are" in last_line(capsys)
