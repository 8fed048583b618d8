from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from mstar.__main__ import main

from ..conftest import turns  # type: ignore[import-not-found]


def export(run: Path, to: str, *more: str) -> Path:
    folder = run.parent / to
    assert main(["export-data", "--run", str(run), "--to", to, "--output", str(folder), *more]) == 0
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def parquet(path: Path) -> Dataset:
    return load_dataset("parquet", data_files=str(path), cache_dir=str(path.parent / "cache"), split="train")


ASKED = turns("Be brief.", "Look: <image> what is it?", "A room.", "How many chairs?")
