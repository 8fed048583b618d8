"""Every comparison of the paper runs end to end from its shipped config, smaller by overrides alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mstar.__main__ import main

CONFIGS = Path(__file__).parents[2] / "configs"
OVERLAYS = sorted(path.stem for path in (CONFIGS / "ablations").glob("*.yaml") if path.stem != "seed_sft")


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_arm_runs(name: str, tmp_path: Path, warm_policy: Path, warm_mprm: Path) -> None:
    overlay = CONFIGS / "ablations" / f"{name}.yaml"
    arguments = ["--data.train.size=32", "--rollout.num_samples=2", "--rollout.dynamics=false"]
    if "reward_model: null" not in overlay.read_text().replace("refresh_reward_model: null", ""):
        arguments.append(f"--rollout.reward_model={warm_mprm}")
    if "refresh_reward_model: null" not in overlay.read_text():
        arguments += [
            "--rollout.refresh_reward_model.iterations=[2]",
            "--rollout.refresh_reward_model.prompts.size=16",
            "--rollout.refresh_reward_model.annotation.unmixed_share=1",
            "--rollout.refresh_reward_model.epochs=1",
        ]
    if "unlabelled:" in overlay.read_text():
        arguments.append("--data.unlabelled.size=32")
    status = main(
        [
            "fit",
            f"--config={CONFIGS / 'tiny' / 'evolve.yaml'}",
            f"--config={overlay}",
            f"--model.model_name={warm_policy}",
            f"--trainer.default_root_dir={tmp_path}",
            "--data.validation.size=4",
            "--trainer.max_epochs=2",
            "--trainer.enable_progress_bar=false",
            *arguments,
        ]
    )
    reports = [json.loads((tmp_path / f"iterations/000{i}/report.json").read_text()) for i in (1, 2)]
    assert reports[1]["funnel"]["generated"] >= 2 * reports[1]["prompts"] > 0
    # This policy was not warmed up for every arm's prompts; a run that keeps nothing ends with an error.
    kept = any(report["funnel"]["kept"] for report in reports)
    assert status == (0 if kept else 1)
    assert (tmp_path / "policy" / "model.safetensors").is_file() == kept
