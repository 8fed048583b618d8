"""Every kind of comparison of the paper runs end to end from its shipped config, smaller by overrides alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.__main__ import main

CONFIGS = Path(__file__).parents[2] / "configs"
OVERLAYS = sorted(path.stem for path in (CONFIGS / "ablations").glob("*.yaml") if path.stem != "seed_sft")


def without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_numbers(part) for part in value]
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else value


def kinds() -> list[str]:
    """One arm of those that differ in numbers alone; that these arrive is seen in tests/test_configs.py."""
    found: dict[str, str] = {}
    for name in OVERLAYS:
        shape = without_numbers(yaml.safe_load((CONFIGS / "ablations" / f"{name}.yaml").read_text()))
        found.setdefault(json.dumps(shape, sort_keys=True), name)
    return list(found.values())


@pytest.mark.parametrize("name", kinds())
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
