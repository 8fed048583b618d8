"""The whole demo in miniature: every stage from its shipped config, smaller by overrides alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from mstar.demo.run import run_demo
from mstar.models.step_scorer import StepScorer

SMALL = {
    "warmup": ["--trainer.max_steps=8", "--data.train.size=384", "--trainer.enable_progress_bar=false"],
    "annotate": ["--prompts.size=32", "--settings.unmixed_share=1", "--settings.num_samples=4"],
    "mprm": ["--data.prompts.size=32", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"],
    "evolve": [
        "--data.train.size=64",
        "--data.validation.size=8",
        "--rollout.num_samples=4",
        "--rollout.refresh_reward_model.prompts.size=32",
        "--rollout.refresh_reward_model.annotation.unmixed_share=1",
        "--rollout.refresh_reward_model.epochs=1",
        "--trainer.max_epochs=3",
    ],
    "seed_sft": ["--data.train.size=480", "--trainer.enable_progress_bar=false"],
    "test": ["--data.test.size=16", "--trainer.enable_progress_bar=false"],
}


@pytest.mark.timeout(600)
def test_the_demo_ends_with_summary_and_report(
    tmp_path: Path, warm_policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The warm-up goes on from a policy that is right now and then, which takes long from new weights.
    small = SMALL | {"warmup": [f"--model.model_name={warm_policy}", *SMALL["warmup"]]}
    summary = run_demo(3, tmp_path, small)
    printed = capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["seed"] == 3
    assert len(summary["iteration_accuracies"]) == 3
    assert summary["final_accuracy"] == summary["iteration_accuracies"][-1]
    assert {"warmup", "annotate", "mprm", "evolve", "seed_sft", "test"} <= set(summary["stage_seconds"])
    for text in ("warm-up", "iteration 3", "seed-only SFT", "report.html", "tensorboard --logdir"):
        assert text in printed
    assert "Content-Security-Policy" in (tmp_path / "report.html").read_text()
    AutoModelForImageTextToText.from_pretrained(tmp_path / summary["policy"])
    AutoProcessor.from_pretrained(tmp_path / summary["policy"])
    StepScorer.load(tmp_path / summary["mprm"])
    # Once, before iteration 3, and found by the report of that iteration.
    assert len(list((tmp_path / "evolve" / "mprm").glob("0003-*/model/mprm.json"))) == 1
    assert "sweep" in json.loads((tmp_path / "evolve/iterations/0003/report.json").read_text())

    assert run_demo(3, tmp_path, small) == summary
    again = capsys.readouterr().out
    assert again.count("done before") == 7
    assert "$ python -m mstar" not in again
