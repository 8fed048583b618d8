"""What two processes find of every family: its gradients by DDP and by FSDP2 are those of one process.

Started by test_family_table.py, with the environment of ``torch.distributed``: python family_worker.py RESULT.json
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import architectures  # its folder is in PYTHONPATH
import torch
import torch.distributed as dist
from family_table import NO, YES, loss, usable
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from mstar.distributed import rank, world_size
from mstar.models.sharding import empty_loss, shard

# Rounding of float32 sums of other order, as a share of the largest gradient.
ROUNDING = 1e-4
ROWS = [slice(0, 1), slice(1, 3)]


class Loss(nn.Module):
    """The loss of training as a module, as Lightning's strategies call it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, renderer: Any, rows: slice) -> Tensor:
        return loss(self.model, renderer, rows) + empty_loss(self)


def gradients(module: nn.Module) -> list[Tensor]:
    found = []
    for weight in module.parameters():
        grad: Any = torch.zeros_like(weight) if weight.grad is None else weight.grad
        found.append(grad.full_tensor() if hasattr(grad, "full_tensor") else grad)
    return found


def verdict(wanted: list[Tensor], found: list[Tensor]) -> str:
    largest = max(float(one.abs().max()) for one in wanted)
    worst = max(float((one - other).abs().max()) for one, other in zip(wanted, found, strict=True))
    return YES if worst < ROUNDING * largest else NO


def cells(name: str, renderer: Any, mesh: Any) -> dict[str, str]:
    plain = Loss(architectures.tiny_model(name))
    replicated, split = copy.deepcopy(plain), copy.deepcopy(plain)
    (sum(plain(renderer, rows) for rows in ROWS) / 2).backward()
    wanted = gradients(plain)
    # A wrapper that is not kept would be gone before the backward pass, and its hooks with it.
    wrapper = DistributedDataParallel(replicated)
    wrapper(renderer, ROWS[rank()]).backward()
    shard(split, mesh, backbone=split.model)
    split(renderer, ROWS[rank()]).backward()
    return {"DDP": verdict(wanted, gradients(replicated)), "FSDP2": verdict(wanted, gradients(split))}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    device_mesh = init_device_mesh("cpu", (world_size(),), mesh_dim_names=("data_parallel",))
    text = architectures.text_renderer()
    results = {}
    for family in usable():
        results[family] = cells(family, text, device_mesh)
    if rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(results), encoding="utf-8")
    dist.destroy_process_group()
