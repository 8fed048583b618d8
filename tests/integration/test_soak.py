"""Many iterations: what the process holds and what an iteration reads must not grow."""

from __future__ import annotations

import gc
import json
import os
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

ITERATIONS = 120
WARM = 30


class Gauge(Callback):
    """Writes after every iteration what the process holds: resident bytes, open files, and all bytes read.

    Args:
        path: The file, a line of JSON an iteration.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes one line."""
        if trainer.current_epoch % WARM in (0, WARM - 1):
            # Where it is compared: what waits for Python's collector is not held.
            gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        seen = {
            "resident": pages * os.sysconf("SC_PAGE_SIZE"),
            "files": len(os.listdir("/proc/self/fd")),
            # By read calls, from anywhere; the first line of "io" is "rchar: N".
            "read": int(Path("/proc/self/io").read_text().split()[1]),
        }
        with Path(self.path).open("a") as file:
            file.write(json.dumps(seen) + "\n")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.timeout(900)
def test_many_iterations_take_no_more_than_few(evolve: Any, forker: Any) -> None:
    gauge = evolve.folder / "gauge.jsonl"
    settings = evolve.settings(dynamics=False, interval=0.125, num_samples=2, keep_iterations=3)
    settings["data"]["init_args"]["batch_size"] = 2
    settings["trainer"]["max_epochs"] = ITERATIONS
    settings["trainer"]["callbacks"] = [
        {"class_path": f"{Path(__file__).stem}.Gauge", "init_args": {"path": str(gauge)}}
    ]
    # A process of its own, whose allocator gives back what is freed: what other tests left in this one, and what is
    # only kept for later, is no growth.
    allocator = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    command = ["fit", "--config", evolve.write(settings)]
    forker.run(command, evolve.folder / "log", seconds=600, path=[Path(__file__).parent], **allocator)
    run = evolve.folder / "run"
    seen = [json.loads(line) for line in gauge.read_text().splitlines()]
    assert len(seen) == ITERATIONS
    # The first iterations fill caches; after them 90 iterations may not add more than a few megabytes.
    growth = seen[-1]["resident"] - seen[WARM]["resident"]
    assert growth < 17e6, f"{growth / 1e6:.0f} MB more after {ITERATIONS} iterations than after {WARM}"
    assert seen[-1]["files"] <= seen[WARM]["files"] + 1
    read = [after["read"] - before["read"] for before, after in pairwise(seen)]
    # About 15 kB each; an iteration that reads the reports of all earlier ones would read several times more.
    early, late = statistics.median(read[15:45]), statistics.median(read[-30:])
    assert late < 2 * early, f"an iteration reads {early} bytes at first, and {late} at last"
    # The responses of old iterations are gone; what was kept of them, and their reports, stay.
    assert sorted(path.parent.name for path in run.glob("iterations/*/responses-*.parquet")) == ["0118", "0119", "0120"]
    assert len(list(run.glob("iterations/*/report.json"))) == ITERATIONS
    assert len(list(run.glob("iterations/*/examples.parquet"))) == ITERATIONS
