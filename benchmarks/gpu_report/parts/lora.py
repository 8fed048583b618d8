"""Fine-tuning of adapters: LoRA on weights in bfloat16, QLoRA on weights in 4 bits."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any, Final

import torch

from benchmarks.gpu_report.bench import Bench, LeftOut
from benchmarks.gpu_report.models import Policy, build_policy, real_config, small_config
from benchmarks.gpu_report.parts.sft import measure
from benchmarks.gpu_report.training import GivenPolicy
from mstar.models.backbone import load_model
from mstar.models.lora import LoraSettings

RANK: Final = 64
ROWS: Final = (2, 4)
_SPARE: Final = 5e9


def run(bench: Bench) -> None:
    """LoRA on a 7B model as it is, then QLoRA on the same weights, saved and loaded again in 4 bits."""
    shape = "qwen2_5_vl" if bench.small else "qwen2_5_vl_7b"
    config = small_config(shape) if bench.small else real_config(shape)
    folder = bench.scratch / "whole"
    renderer: Any = None
    with bench.row(f"{shape}, LoRA"):
        policy = build_policy(config, torch.bfloat16, bench.device)
        renderer = policy.renderer
        if find_spec("bitsandbytes") is not None:
            _save(policy, folder)
        settings = LoraSettings(rank=4 if bench.small else RANK, alpha=RANK)
        module = GivenPolicy(policy, lora=settings, lr=1e-5)
        for rows in ROWS[:1] if bench.small else ROWS:
            measure(bench, f"{shape}, LoRA, batches of {rows}", module, policy, rows)
        del policy, module
    with bench.row(f"{shape}, QLoRA"):
        if find_spec("bitsandbytes") is None:
            raise LeftOut("bitsandbytes is not installed.")
        if not (folder / "config.json").is_file():
            raise LeftOut(f"the disk has no {_SPARE / 1e9:.0f} GB beside the model's weights, which are saved for it.")
        settings = LoraSettings(rank=4 if bench.small else RANK, alpha=RANK, quantization="nf4")
        with bench.measured() as loading:
            model = load_model(str(folder), dtype="bfloat16", quantization="nf4").to(bench.device)
        bench.note(
            f"{shape}, loading in 4 bits",
            {"s": loading.seconds, "held GB": bench.held_gb(), "peak GB": loading.peak_gb},
        )
        policy = Policy(model, renderer)
        module = GivenPolicy(policy, lora=settings, lr=1e-5)
        for rows in ROWS[:1] if bench.small else ROWS:
            measure(bench, f"{shape}, QLoRA, batches of {rows}", module, policy, rows)
    shutil.rmtree(folder, ignore_errors=True)


def _save(policy: Policy, folder: Any) -> None:
    size = sum(value.numel() * value.element_size() for value in policy.model.parameters())
    if shutil.disk_usage(folder.parent).free > size + _SPARE:
        policy.model.save_pretrained(folder)
