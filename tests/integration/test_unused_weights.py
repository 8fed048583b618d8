"""Weights that no batch uses: with DDP they neither end the run nor move."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from mstar.models.export import save_model

if TYPE_CHECKING:
    from tests.conftest import Policy


def fit(folder: Path, root: Path, *options: str) -> None:
    """Three steps."""
    settings = {
        "model": {
            "class_path": "mstar.modules.PolicyModule",
            "init_args": {"model_name": str(folder), "lr": 1e-3},  # AdamW's weight decay is on
        },
        "data": {
            "class_path": "mstar.datamodules.PolicyDataModule",
            "init_args": {
                "train": {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "seed", "size": 12}},
                "batch_size": 2,
            },
        },
        "trainer": {
            "accelerator": "cpu", "max_steps": 3, "logger": False, "enable_progress_bar": False,
            "enable_model_summary": False, "default_root_dir": str(root),
        },
    }  # fmt: skip
    root.mkdir()
    (root / "fit.yaml").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "mstar", "fit", "--config", str(root / "fit.yaml"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def unmoved(folder: Path, root: Path) -> set[str]:
    """The weights that a fit left as they were."""
    before, after = (load_file(path / "model.safetensors") for path in (folder, root / "policy"))
    return {name for name, value in before.items() if torch.equal(value, after[name])}


TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


@pytest.mark.timeout(600)
def test_ddp_trains_a_model_that_leaves_weights_unused(llava: Policy, tmp_path: Path) -> None:
    """LLaVA reads its tower before the last layer."""
    save_model(llava.model, llava.renderer, tmp_path / "llava")
    fit(tmp_path / "llava", tmp_path / "one")
    alone = unmoved(tmp_path / "llava", tmp_path / "one")
    assert any("vision" in name for name in alone)
    assert not any("language" in name for name in alone)
    fit(tmp_path / "llava", tmp_path / "two", *TWO)
    assert unmoved(tmp_path / "llava", tmp_path / "two") == alone


@pytest.mark.timeout(600)
def test_a_gradient_that_is_zero_is_a_gradient(split_folder: Path, tmp_path: Path) -> None:
    """Half of the adapters have one at first, because the other half begins at 0: it counts in AdamW's state."""
    fit(split_folder, tmp_path / "lora", "--model.lora.rank", "2", *TWO)
    checkpoint = torch.load(tmp_path / "lora" / "checkpoints" / "last.ckpt", weights_only=True)
    steps = [int(state["step"]) for state in checkpoint["optimizer_states"][0]["state"].values()]
    assert len(steps) == len(checkpoint["state_dict"])
    assert set(steps) == {3}
