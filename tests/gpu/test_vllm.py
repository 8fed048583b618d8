"""vLLM beside the trainer on a CUDA device: memory that is given back, and 16 bits; skipped without either."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.models.export import save_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sleep_level", [0, 1, 2])
@pytest.mark.timeout(600)
def test_every_sync_is_proven(trained: Any, sleep_level: int, dtype: str, tmp_path: Path) -> None:
    save_model(trained.model, trained.renderer, tmp_path / "trained")
    # Each in its own process: vLLM's sleep mode serves one engine a process.
    worker = Path(__file__).with_name("vllm_worker.py")
    command = [sys.executable, str(worker), str(tmp_path / "trained"), dtype, str(sleep_level)]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=500, check=False)
    assert ended.returncode == 0, ended.stderr
