"""What is found of every family: by one process, and that its gradients by DDP and by FSDP2 are those of one process.

Started by test_family_table.py: python family_worker.py RESULT.json. It makes all the models once, which takes longer
than any check, and then starts two more processes for what two do, by ``fork``, so that they have them too.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import architectures  # its folder is in PYTHONPATH
import torch
import torch.distributed as dist
from family_table import NO, YES, loss, row_of, usable
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mstar.distributed import gather_lists, rank, world_size
from mstar.models.sharding import decoder_layers, shard

# Rounding of float32 sums of other order, as a share of the largest gradient.
ROUNDING = 1e-4
ROWS = [slice(0, 1), slice(1, 3)]


class Loss(nn.Module):
    """The loss of training as a module, as Lightning's strategies call it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, renderer: Any, rows: slice) -> Tensor:
        value = loss(self.model, renderer, rows)
        # In the place of a picture in the first row: it uses weights that text may leave out, but not all of those.
        return value if rows.start else value + sum(weight.mean() for weight in list(self.outside())[::2])

    def outside(self) -> Iterator[nn.Parameter]:
        """The weights outside of the language model's layers."""
        layers = {id(weight) for layer in decoder_layers(self.model) for weight in layer.parameters()}
        return (weight for weight in self.parameters() if id(weight) not in layers)


def gradients(module: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in module.parameters()]


def difference(wanted: list[Tensor], found: list[Tensor]) -> float:
    """The largest one, as a share of the largest gradient; of split gradients it is that of this process's part."""
    worst = 0.0
    for one, other in zip(wanted, found, strict=True):
        if isinstance(other, DTensor):
            parts = one.chunk(world_size())
            one, other = parts[rank()] if rank() < len(parts) else one[:0], other.to_local()
        assert one.shape == other.shape
        worst = max(worst, float((one - other).abs().max()) if one.numel() else 0.0)
    return worst / max(float(one.abs().max()) for one in wanted)


def differences(model: nn.Module, renderer: Any, mesh: Any) -> dict[str, float]:
    plain = Loss(model)
    replicated, split = copy.deepcopy(plain), copy.deepcopy(plain)
    (sum(plain(renderer, rows) for rows in ROWS) / 2).backward()
    wanted = gradients(plain)
    # A wrapper that is not kept would be gone before the backward pass, and its hooks with it.
    wrapper = DistributedDataParallel(replicated, find_unused_parameters=True)
    wrapper(renderer, ROWS[rank()]).backward()
    shard(split, mesh, backbone=split.model)
    split(renderer, ROWS[rank()]).backward()
    return {"DDP": difference(wanted, gradients(replicated)), "FSDP2": difference(wanted, gradients(split))}


def compare(models: dict[str, Any], number: int, result: Path) -> None:
    """The work of one of two processes."""
    dist.init_process_group("gloo", f"file://{result}.meeting", rank=number, world_size=2)
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("data_parallel",))
    text = architectures.text_renderer()
    found = [differences(models.pop(name), text, mesh) for name in list(models)]
    both = gather_lists([found])
    if rank() == 0:
        result.write_text(json.dumps(both), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    output = Path(sys.argv[1])
    names = usable()
    made = {name: architectures.tiny_model(name) for name in names}
    processes = []
    for number in range(2):
        processes.append(os.fork())
        if processes[-1] == 0:
            compare(made, number, output)
            sys.exit()
    text = architectures.text_renderer()
    cells = {name: row_of(name, made.pop(name), text) for name in names}
    assert [os.waitpid(process, 0)[1] for process in processes] == [0, 0]
    for name, *both in zip(names, *json.loads(output.read_text(encoding="utf-8")), strict=True):
        cells[name] |= {column: YES if max(one[column] for one in both) < ROUNDING else NO for column in both[0]}
    output.write_text(json.dumps(cells), encoding="utf-8")
