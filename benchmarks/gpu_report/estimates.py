"""What ``mstar memory`` says of a measured stage: its account of the same configuration, for one GPU.

The CUDA context is left out, because the measured peak is that of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.models import Policy
from mstar.memory.configuration import read_plan
from mstar.memory.run_account import Given, account_of
from mstar.models.lora import LoraSettings
from mstar.types import Prompt

__all__ = ["generating_gb", "scoring_gb", "training_gb"]

_REHEARSED = 80 * 10**9  # a GPU's memory where there is none


def training_gb(
    bench: Bench, policy: Policy, prompts: Iterable[Prompt], *, rows: int, lora: LoraSettings | None, dtype: str
) -> float:
    """Its estimate of a training step, 10^9 bytes.

    Args:
        bench: The device.
        policy: Configuration and renderer.
        prompts: What is trained on, with rationales.
        rows: Rows of a batch.
        lora: Adapters; none trains the weights.
        dtype: Type of the stored weights.
    """
    model = {"model_name": "model", "dtype": dtype, "lora": lora, "gradient_checkpointing": True}
    config = {
        "model": {"class_path": "mstar.modules.PolicyModule", "init_args": model},
        "data": {"init_args": {"batch_size": rows}},
        "trainer": {"precision": "bf16-mixed", "devices": 1, "accelerator": "gpu"},
    }
    return _estimate(bench, policy, config, "train", prompts)


def generating_gb(
    bench: Bench, policy: Policy, prompts: Iterable[Prompt], *, rows: int, tokens: int, precision: str
) -> float:
    """Its estimate of generation, 10^9 bytes.

    Args:
        bench: The device.
        policy: Configuration and renderer; the weights have the model's type.
        prompts: What is generated for.
        rows: Responses at the same time.
        tokens: Longest response.
        precision: Lightning's name of what is computed in.
    """
    config = {
        "policy": "model",
        "dtype": _dtype(policy),
        "device": "cuda",
        "precision": precision,
        "settings": {"init_args": {"num_samples": 16}},
        "engine": {
            "class_path": "mstar.generation.TransformersEngine",
            "init_args": {"max_new_tokens": tokens, "batch_size": rows},
        },
    }
    return _estimate(bench, policy, config, "generate", prompts)


def scoring_gb(bench: Bench, policy: Policy, prompts: Iterable[Prompt], *, rows: int, precision: str) -> float:
    """Its estimate of scoring by an MPRM, 10^9 bytes.

    Args:
        bench: The device.
        policy: Configuration and renderer of its backbone.
        prompts: With one of the responses as rationale.
        rows: Responses in a batch.
        precision: Lightning's name of what is computed in.
    """
    model = {"reward_model": "model", "dtype": _dtype(policy), "reward_batch_size": rows}
    config = {
        "model": {"class_path": "mstar.modules.StepBenchmarkModule", "init_args": model},
        "trainer": {"precision": precision, "devices": 1, "accelerator": "gpu"},
    }
    return _estimate(bench, policy, config, "score", prompts)


def _estimate(bench: Bench, policy: Policy, config: Any, stage: str, prompts: Iterable[Prompt]) -> float:
    folder = bench.scratch / "shape"
    policy.model.config.save_pretrained(folder)
    memory = torch.cuda.get_device_properties(0).total_memory if bench.device == "cuda" else _REHEARSED
    account = account_of(
        read_plan(config),
        Given(shape=str(folder), gpu_bytes=memory),
        renderer=policy.renderer,
        rows=[(prompt, prompt.rationale) for prompt in prompts],
    )
    [found] = [part for part in account.stages if part.name == stage]
    return sum(amount.num_bytes for amount in found.amounts if amount.name != "CUDA context") / 1e9


def _dtype(policy: Policy) -> str:
    return str(next(policy.model.parameters()).dtype).removeprefix("torch.")
