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

    The file is the book: other processes may write of other stages at the same time. What a stage that was stopped had
    taken counts, unless its process was killed.

    Args:
        folder: Where ``stages.json`` is kept.

    Raises:
        ConfigError: the folder holds stages of another seed.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.path = folder / "stages.json"
        self._seed = seed
        found = self._read()["seed"]
        if found != seed:
            raise ConfigError(
                f"'{folder}' holds a run with seed {found}, not {seed}: choose another folder (mstar demo "
                f"--seed {seed} --output runs/demo-{seed}, or make demo SEED={seed} OUT=runs/demo-{seed}), or remove "
                "it to start over."
            )

    def _read(self) -> dict[str, Any]:
        book: dict[str, Any] = {"seed": self._seed, "stages": {}}
        return book | (read_json(self.path) if self.path.exists() else {})

    def run(self, name: str, stage: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        """Runs a stage, unless it is written down as done.

        Returns:
            Its results, now or as they were written down.
        """
        if name in self.stages:
            sys.stdout.write(f"== {name}: done before\n")
        else:
            sys.stdout.write(f"\n== {name}\n")
            sys.stdout.flush()
            began = {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}
            result = None
            try:
                result = stage() or {}
            finally:
                ended = {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}
                book = self._read()
                before = book.setdefault("stopped", {}).pop(name, {})
                spent = {key: ended[key] - began[key] + before.get(key, 0.0) for key in began}
                if result is None:
                    book["stopped"][name] = spent
                else:
                    book["stages"][name] = spent | {"result": result}
                write_json(self.path, book)
            sys.stdout.write(f"== {name}: {spent['seconds']:.0f} s\n")
        sys.stdout.flush()
        found: dict[str, Any] = self.stages[name]["result"]
        return found

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Of every stage that is done, ``seconds``, ``cpu_seconds`` and ``result``."""
        found: dict[str, dict[str, Any]] = self._read()["stages"]
        return found

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of every stage that is done."""
        return {name: round(stage["seconds"], 1) for name, stage in self.stages.items()}
