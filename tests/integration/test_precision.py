"""A run in 16 bits computes everything in them, one and the same, and goes on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from mstar.generation import TransformersEngine
from mstar.models.step_scorer import StepScorer
from mstar.storage import read_json


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[Any]]:
    """What autocast was while responses were written and scored, and the types of what the MPRM gave out."""
    found: dict[str, set[Any]] = {"generate": set(), "score": set(), "backbone": set()}
    generate, score, steps = TransformersEngine.generate, StepScorer.score, StepScorer._score_steps

    def autocast() -> torch.dtype | None:
        return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def watched_generate(self: Any, requests: Any) -> Any:
        found["generate"].add(autocast())
        return generate(self, requests)

    def watched_score(self: Any, *given: Any) -> Any:
        found["score"].add(autocast())
        return score(self, *given)

    def watched_steps(self: Any, predicting: Any, *given: Any) -> Any:
        logits = steps(self, predicting, *given)
        found["backbone"].add((next(self.backbone.parameters()).dtype, logits.logits_N.dtype))
        return logits

    monkeypatch.setattr(TransformersEngine, "generate", watched_generate)
    monkeypatch.setattr(StepScorer, "score", watched_score)
    monkeypatch.setattr(StepScorer, "_score_steps", watched_steps)
    return found


MIXED = ("--trainer.precision", "bf16-mixed")


def logprobs(root: Path, iteration: int) -> list[float]:
    files = sorted((root / f"iterations/{iteration:04d}").glob("responses-*.parquet"))
    return [row["logprob"] for path in files for row in pq.read_table(path).to_pylist()]


def test_everything_computes_in_bfloat16(evolve: Any, warm_mprm: Path, seen: dict[str, set[Any]]) -> None:
    """Rollouts, dynamics, sweep and scoring, with weights in float32."""
    temperature = {
        "class_path": "mstar.temperature.AdaptiveTemperature",
        "init_args": {"minimum": 0.7, "maximum": 1.0, "step": 0.3, "every": 1},
    }
    root = evolve(*MIXED, selection="top_k", reward_model=str(warm_mprm), temperature=temperature)
    assert seen["generate"] == seen["score"] == {torch.bfloat16}
    # Scores stay exact where the order of responses depends on them.
    assert seen["backbone"] == {(torch.float32, torch.float32)}
    facts = read_json(root / "iterations/0001/plan.json")
    assert (facts["policy_compute"], facts["policy_dtype"]) == ("bfloat16 (autocast)", "float32")
    assert facts["reward_dtype"] == "float32"
    assert not torch.is_autocast_enabled("cpu")
