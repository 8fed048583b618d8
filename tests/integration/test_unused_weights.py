"""Weights that no batch uses: with DDP they neither end the run nor move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from mstar.models.export import save_model

if TYPE_CHECKING:
    from tests.conftest import Policy


def fit(forker: Any, folder: Path, root: Path, *options: str, number: int = 2) -> None:
    """Three steps, in two processes with DDP unless another number is given."""
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
    several = ["--trainer.devices", str(number), "--trainer.strategy", "ddp"] if number > 1 else []
    forker.run(["fit", "--config", root / "fit.yaml", *several, *options], root / "log", number=number)


def unmoved(folder: Path, root: Path) -> set[str]:
    """The weights that a fit left as they were."""
    before, after = (load_file(path / "model.safetensors") for path in (folder, root / "policy"))
    return {name for name, value in before.items() if torch.equal(value, after[name])}


@pytest.mark.timeout(600)
def test_ddp_trains_a_model_that_leaves_weights_unused(forker: Any, llava: Policy, tmp_path: Path) -> None:
    """LLaVA reads its tower before the last layer."""
    save_model(llava.model, llava.renderer, tmp_path / "llava")
    fit(forker, tmp_path / "llava", tmp_path / "one", number=1)
    alone = unmoved(tmp_path / "llava", tmp_path / "one")
    assert any("vision" in name for name in alone)
    assert not any("language" in name for name in alone)
    fit(forker, tmp_path / "llava", tmp_path / "two")
    assert unmoved(tmp_path / "llava", tmp_path / "two") == alone


@pytest.mark.timeout(600)
def test_a_gradient_that_is_zero_is_a_gradient(forker: Any, split_folder: Path, tmp_path: Path) -> None:
    """Half of the adapters have one at first, because the other half begins at 0: it counts in AdamW's state."""
    fit(forker, split_folder, tmp_path / "lora", "--model.lora.rank", "2")
    checkpoint = torch.load(tmp_path / "lora" / "checkpoints" / "last.ckpt", weights_only=True)
    steps = [int(state["step"]) for state in checkpoint["optimizer_states"][0]["state"].values()]
    assert len(steps) == len(checkpoint["state_dict"])
    assert set(steps) == {3}
