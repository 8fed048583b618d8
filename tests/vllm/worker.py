"""One of two processes with real vLLM: ``python worker.py folder rank case``; what it wrote goes into ``folder``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def main() -> None:
    folder, rank, case = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)

    from mstar.generation import Request, Sample, VllmEngine, plan_samples
    from mstar.generation.drift import DriftCheck
    from mstar.models.backbone import load_model, load_renderer
    from mstar.models.sharding import load_full_state, shard
    from mstar.prompts import TinyDice

    model: Any = load_model(str(folder / "policy")).eval()
    renderer = load_renderer(str(folder / "policy"), model)
    state = {name: value + 0.01 for name, value in model.state_dict().items()}
    if case == "sharded":
        mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
        shard(model, mesh)
    group_size = 2 if case == "tensor_parallel" else 1
    engine = VllmEngine(
        24, tensor_parallel_size=group_size, enforce_eager=True, kv_cache_gb=0.25, dtype="float32", progress=False
    )
    engine.start(model, renderer)
    prompts = list(TinyDice("pool", 6))
    check = DriftCheck(prompts)
    check.prepare(engine)
    load_full_state(model, state)
    engine.update_weights(model)
    drift = check.measure(engine, model, renderer)
    assert drift is not None
    greedy = Sample(0, 0.0, 0)
    mine = prompts if group_size == 2 else prompts[rank::2]
    requests = [Request(p, (greedy, *plan_samples(0, "x", p.id, 4, 1.0, first_index=1))) for p in mine]
    # A process on its own may have less to do than the other, and need not wait for it.
    written = engine.generate(requests[:1] if group_size == 1 and rank == 1 else requests)
    texts = {row[0].prompt_id: [response.text for response in row] for row in written}
    (folder / f"found-{case}-{rank}.json").write_text(json.dumps({"texts": texts, "drift": drift.worst}))
    engine.close()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
