"""What the runs of these tests leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mstar.storage import RunDirectory, read_responses
from mstar.types import ScoredResponse

# An MPRM that is retrained before the second iteration.
REFRESH = {
    "iterations": [2],
    "prompts": {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "refresh", "size": 12}},
    "annotation": {"num_samples": 4, "num_continuations": 2},
    "lr": 1e-4,
}


def rows_of(root: Path, iteration: int) -> list[ScoredResponse]:
    """All responses of an iteration."""
    return [row for shard in RunDirectory(root).response_shards(iteration) for row in read_responses(shard)]


def report_of(root: Path, iteration: int) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(RunDirectory(root).report(iteration).read_text())
    return loaded


def plan_of(root: Path, iteration: int) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(RunDirectory(root).plan(iteration).read_text())
    return loaded


def class_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
