"""Files of rows, and what comes of them, for the tests of RecordPrompts and of its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mstar.types import Prompt


def write_lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def quarantined(path: Path) -> list[tuple[int, str]]:
    return [(row["row"], row["reason"]) for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())]


def sizes(prompt: Prompt) -> list[tuple[int, int]]:
    return [image.load().size for image in prompt.images]
