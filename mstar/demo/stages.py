"""Stages that are run once: what is done is written down, and a second call goes on where the first one stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mstar.errors import ConfigError
from mstar.storage import read_json, write_json


class StageBook:
    """The stages of one folder: their seconds, CPU-seconds and results.

    A stage that was stopped and begun again counts from the last beginning.

    Args:
        folder: Where ``stages.json`` is kept.

    Raises:
        ConfigError: the folder holds stages of another seed.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.path = folder / "stages.json"
        book: dict[str, Any] = read_json(self.path) if self.path.exists() else {"seed": seed, "stages": {}}
        if book["seed"] != seed:
            raise ConfigError(
                f"'{folder}' holds a run with seed {book['seed']}, not {seed}: choose another folder (mstar demo "
                f"--seed {seed} --output runs/demo-{seed}, or make demo SEED={seed} OUT=runs/demo-{seed}), or remove "
                "it to start over."
            )
        self._book = book

    def run(self, name: str, stage: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        """Runs a stage, unless it is written down as done.

        Returns:
            Its results, now or as they were written down.
        """
        stages = self._book["stages"]
        if name in stages:
            sys.stdout.write(f"== {name}: done before\n")
        else:
            sys.stdout.write(f"\n== {name}\n")
            sys.stdout.flush()
            began, cpu_began = time.perf_counter(), time.process_time()
            result = stage() or {}
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
            stages[name] = {"seconds": seconds, "cpu_seconds": cpu, "result": result}
            write_json(self.path, self._book)
            sys.stdout.write(f"== {name}: {seconds:.0f} s\n")
        sys.stdout.flush()
        found: dict[str, Any] = stages[name]["result"]
        return found

    def result(self, name: str) -> dict[str, Any]:
        """What a stage returned; empty if it is not done."""
        found: dict[str, Any] = self._book["stages"].get(name, {}).get("result", {})
        return found

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of every stage that is done."""
        return {name: round(stage["seconds"], 1) for name, stage in self._book["stages"].items()}
