"""What several files of these tests begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mstar.prompts import TinyDice
from mstar.storage import write_step_labels
from mstar.types import StepLabels


@pytest.fixture
def write_labels(tmp_path: Path) -> Callable[[int], str]:
    """Writes a right and a misread response to each of some prompts; the misread step and what follows are wrong."""

    def write(count: int) -> str:
        rows = []
        for prompt in TinyDice("annotation", count):
            right = tuple(line + "\n" for line in prompt.reference_responses[0].split("\n"))
            right = (*right[:-1], right[-1].rstrip("\n"))
            wrong = (right[0], right[1][:-2] + "0\n", *right[2:])
            rows.append(StepLabels(prompt.id, "".join(right), right, (4, 4, 4, 1), (4, 4, 4, 1), True, -2.0, True))
            rows.append(StepLabels(prompt.id, "".join(wrong), wrong, (4, 0, 0, 0), (4, 4, 4, 1), False, -9.0, False))
        write_step_labels(tmp_path / "labels" / "labels-00000.parquet", rows)
        return str(tmp_path / "labels")

    return write
