"""FSDP2 on CUDA devices, one or two; skipped without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mstar.__main__ import main
from mstar.storage import RunDirectory

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

OVERLAYS = Path(__file__).parents[2] / "configs/overlays"
DEVICES = str(min(2, torch.cuda.device_count()))


@pytest.mark.timeout(900)
def test_a_run_goes_on_and_exports(evolve: Any, warm_mprm: Path, tmp_path: Path) -> None:
    settings = evolve.settings("run", selection="top_k", top_k=1, reward_model=str(warm_mprm))
    settings["model"]["init_args"] |= {"freeze": ["vision"], "gradient_checkpointing": True}
    settings["trainer"] |= {"accelerator": "gpu", "devices": int(DEVICES), "gradient_clip_val": 1.0}
    config = ["--config", str(evolve.write(settings)), "--config", str(OVERLAYS / "fsdp2.yaml")]
    root = tmp_path / "run"
    for epochs in ("1", "2"):
        command = [sys.executable, "-m", "mstar", "fit", *config, "--trainer.max_epochs", epochs]
        subprocess.run(command, check=True, timeout=400)
    plans = [json.loads(RunDirectory(root).plan(iteration).read_text())["policy"] for iteration in (1, 2)]
    assert plans[0] != plans[1]
    assert main(["export", "--checkpoint", str(root / "checkpoints/last.ckpt"), "--output", str(tmp_path / "out")]) == 0
    exported, trained = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", root / "policy"))
    assert exported.keys() == trained.keys()
    assert all(torch.equal(value, trained[name]) for name, value in exported.items())
    assert {value.dtype for value in exported.values()} == {torch.float32}
    # The weights themselves were not rounded to what they are computed with.
    assert any(not torch.equal(value, value.bfloat16().float()) for value in exported.values())
