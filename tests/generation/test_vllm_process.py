"""vLLM within the process that trains."""

from __future__ import annotations

import pytest
import torch

from mstar.errors import ConfigError
from mstar.generation.vllm_process import keeping_process_state, require_same_device


def test_vllm_computes_on_the_policys_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("cpu", "cuda", "cuda:0"):
        require_same_device(torch.device(device))
    with pytest.raises(ConfigError, match=r"on GPU 0 .* the policy is on cuda:1: .* CUDA_VISIBLE_DEVICES"):
        require_same_device(torch.device("cuda:1"))
    # Of several processes each takes the GPU of its number.
    monkeypatch.setattr("mstar.generation.vllm_process.world_size", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    require_same_device(torch.device("cuda:1"))
    with pytest.raises(ConfigError, match=r"on GPU 1 .* the policy is on cuda:3"):
        require_same_device(torch.device("cuda:3"))


def test_products_have_the_trainers_precision_after_vllm_has_started() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with keeping_process_state():
            torch.set_float32_matmul_precision("highest")  # as vLLM's GPU worker does
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
