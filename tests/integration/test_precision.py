"""A run in 16 bits computes everything in them, one and the same, and goes on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.__main__ import main
from mstar.generation import TransformersEngine
from mstar.models.step_scorer import StepScorer
from mstar.storage import read_json
from tests.integration.kill_many import differences
from tests.integration.results import REFRESH


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[Any]]:
    """What autocast was while responses were written and scored, and the types of what the MPRM gave out."""
    found: dict[str, set[Any]] = {"generate": set(), "score": set(), "backbone": set()}
    generate, score, steps = TransformersEngine.generate, StepScorer.score_inputs, StepScorer.forward

    def autocast() -> torch.dtype | None:
        return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def watched_generate(self: Any, requests: Any) -> Any:
        found["generate"].add(autocast())
        return generate(self, requests)

    def watched_score(self: Any, *given: Any) -> Any:
        found["score"].add(autocast())
        return score(self, *given)

    def watched_steps(self: Any, batch: Any) -> Any:
        logits = steps(self, batch)
        found["backbone"].add((next(self.backbone.parameters()).dtype, logits.logits_N.dtype))
        return logits

    monkeypatch.setattr(TransformersEngine, "generate", watched_generate)
    monkeypatch.setattr(StepScorer, "score_inputs", watched_score)
    monkeypatch.setattr(StepScorer, "forward", watched_steps)
    return found


MIXED = ("--trainer.precision", "bf16-mixed")


def test_everything_computes_in_bfloat16(evolve: Any, warm_mprm: Path, seen: dict[str, set[Any]]) -> None:
    """Rollouts, dynamics, sweep and scoring, with weights in float32."""
    temperature = {
        "class_path": "mstar.temperature.AdaptiveTemperature",
        "init_args": {"minimum": 0.7, "maximum": 1.0, "step": 0.3, "every": 1, "margin": 0.0},
    }
    root = evolve(*MIXED, selection="top_k", reward_model=str(warm_mprm), temperature=temperature)
    assert seen["generate"] == seen["score"] == {torch.bfloat16}
    # Scores stay exact where the order of responses depends on them.
    assert seen["backbone"] == {(torch.float32, torch.float32)}
    facts = read_json(root / "iterations/0001/plan.json")
    assert (facts["policy_compute"], facts["policy_dtype"]) == ("bfloat16 (autocast)", "float32")
    assert facts["scores"]["dtype"] == "float32"
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("precision", "lr"), [("bf16-mixed", "1e-3"), ("bf16-true", "1e-2")])
def test_a_policy_is_measured_in_one_precision(
    evolve: Any, precision: str, lr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The greedy responses of the last dynamics and of predict, with equal log-probabilities to the last bit."""
    written: dict[str, float] = {}
    generate = TransformersEngine.generate

    def watched(self: Any, requests: Any) -> Any:
        # One prompt at a time: the shape of a batch decides about rounding too.
        responses = [generate(self, [request])[0] for request in requests]
        written.update({r.prompt_id: r.logprob for row in responses for r in row if r.temperature == 0})
        return responses

    monkeypatch.setattr(TransformersEngine, "generate", watched)
    config = evolve.settings(num_samples=1, engine=None)
    config["data"]["init_args"]["validation"]["init_args"]["size"] = 4
    config["data"]["init_args"]["test"] = config["data"]["init_args"]["validation"]
    config["rollout"]["engine"] = {
        "class_path": "mstar.generation.TransformersEngine",
        "init_args": {"max_new_tokens": 26, "batch_size": 1, "progress": False},
    }
    path = str(evolve.write(config))
    given = ["--config", path, "--trainer.precision", precision, "--model.lr", lr, "--trainer.max_epochs", "1"]
    assert main(["fit", *given]) == 0
    rollout, checkpoint = dict(written), str(evolve.folder / "run/checkpoints/last.ckpt")
    for command in ("predict", "test"):
        written.clear()
        assert main([command, *given, "--ckpt_path", checkpoint]) == 0
        assert written.keys() <= rollout.keys()
        assert len(written) == 4
        assert written == {prompt_id: rollout[prompt_id] for prompt_id in written}
    written.clear()
    exact = ["--trainer.precision", "32-true"]
    assert main(["predict", *given, *exact, "--ckpt_path", checkpoint]) == 0
    assert written != {prompt_id: rollout[prompt_id] for prompt_id in written}


def test_a_run_in_bfloat16_goes_on_as_if_it_had_never_stopped(evolve_once: Any, warm_mprm: Path) -> None:
    """The MPRM is retrained in the run's precision, too."""
    settings = {"selection": "top_k", "reward_model": str(warm_mprm), "refresh_reward_model": REFRESH}
    whole = evolve_once(*MIXED, "--trainer.max_epochs", "2", name="whole", **settings)
    root = evolve_once(*MIXED, "--trainer.max_epochs", "1", name="stopped", **settings)
    evolve_once(*MIXED, "--trainer.max_epochs", "2", name="stopped", **settings)
    assert differences(whole, root) == []
