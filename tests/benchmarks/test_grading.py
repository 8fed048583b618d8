"""What the two sides of the grading benchmark are given."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_both_sides_judge_one_line_answers_and_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    grading = importlib.import_module("grading")
    for every in (1, grading.EVERY):
        chains = [text.startswith("Step 1:") for _, text in grading.read_cases()[::every]]
        assert sum(chains) == pytest.approx(len(chains) / 2, rel=0.05)
