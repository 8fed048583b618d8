"""What processes do that load one model and split it; process 0 writes what each of them found.

Started by test_sharded_loading.py, with the environment of ``torch.distributed``: python loading_worker.py FOLDER OUT
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from mstar.distributed import gather_lists, is_main, rank, world_size
from mstar.models.backbone import load_model, load_renderer, load_stored
from mstar.models.export import save_model
from mstar.models.sharding import full_state, gather_state, load_full_state, shard


def own_memory() -> int:
    """Bytes of this process's memory that are not pages of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


@contextmanager
def peak(found: dict[str, Any], name: str) -> Iterator[None]:
    """Writes down by how much the process's own memory grew at most within the block."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    dist.barrier()
    before, done, seen = own_memory(), Event(), [0]

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(own_memory() - before)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        seen.append(own_memory() - before)
        done.set()
        watcher.join()
        found[name] = max(seen)


def same(one: nn.Module, other: nn.Module) -> bool:
    state = one.state_dict()
    whole = dict(full_state(other))
    buffers = all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))
    return buffers and state.keys() == whole.keys() and all(torch.equal(state[n], whole[n]) for n in state)


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (world_size(),))
    found: dict[str, Any] = {}
    with peak(found, "plainly"):
        loaded = load_model(str(folder))
        shard(loaded, mesh)
    del loaded
    with peak(found, "taken"):
        model: Any = load_stored(str(folder))
        shard(model, mesh, widen=True)
    plain: Any = load_model(str(folder))
    found["same"] = same(plain, model)
    found["types"] = sorted({str(parameter.dtype) for parameter in model.parameters()})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    found["changed"] = not same(plain, model)
    with peak(found, "restoring"):
        load_full_state(model, load_stored(str(folder)).state_dict())
    found["restored"] = same(plain, model)
    renderer = load_renderer(str(folder), plain)
    if is_main():
        save_model(plain, renderer, out / "plain")
    del plain
    with peak(found, "exporting"):
        state = gather_state(model, torch.bfloat16)
        if is_main():
            save_model(model, renderer, out / "half", state=state, dtype=torch.bfloat16)
        del state
    state = gather_state(model)
    if is_main():
        save_model(model, renderer, out / "exact", state=state)
    results = gather_lists([found])
    if rank() == 0:
        (out / "found.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
