"""A run that was stopped and resumed ends as one that was never stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.__main__ import main
from mstar.storage import RunDirectory, read_examples, read_responses

ADAPTIVE = {
    "class_path": "mstar.temperature.AdaptiveTemperature",
    "init_args": {"initial": 1.0, "minimum": 0.5, "maximum": 1.5, "step": 0.5, "every": 1},
}
REFRESH = {
    "iterations": [2],
    "prompts": {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "refresh", "size": 12}},
    "annotation": {"num_samples": 4, "num_continuations": 2},
    "lr": 1e-4,
}


def checkpoint(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(root / "checkpoints/last.ckpt", weights_only=True)
    return loaded


def assert_same_end(one: Path, other: Path) -> None:
    a, b = checkpoint(one), checkpoint(other)
    assert a["epoch"] == b["epoch"] == 2
    assert a["global_step"] == b["global_step"]
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
    assert a["lr_schedulers"] == b["lr_schedulers"]
    [x], [y] = a["optimizer_states"], b["optimizer_states"]
    assert x["param_groups"] == y["param_groups"]
    for number, state in x["state"].items():
        assert all(torch.equal(value, y["state"][number][name]) for name, value in state.items())
    for iteration in (1, 2, 3):
        paths = [RunDirectory(root) for root in (one, other)]
        assert len({tuple(read_examples(run.examples(iteration))) for run in paths}) == 1
        shards = [[read_responses(shard) for shard in run.response_shards(iteration)] for run in paths]
        assert shards[0] == shards[1]
        reports = [json.loads(run.report(iteration).read_text()) for run in paths]
        for report in reports:
            del report["seconds"], report["tokens_per_second"]
        assert reports[0] == reports[1]


@pytest.fixture(scope="module")
def settings(warm_mprm: Path) -> dict[str, Any]:
    """Everything that a checkpoint has to carry: temperature, a retrained MPRM, optimizer and schedule."""
    return {
        "selection": "top_k",
        "top_k": 1,
        "reward_model": str(warm_mprm),
        "temperature": ADAPTIVE,
        "refresh_reward_model": REFRESH,
    }


@pytest.fixture(scope="module")
def whole(evolve_once: Any, settings: dict[str, Any]) -> Path:
    root: Path = evolve_once("--trainer.max_epochs", "3", name="whole", **settings)
    return root


@pytest.mark.parametrize(("stop", "path"), [(1, "last"), (2, "file")])
def test_a_resumed_run_ends_like_one_never_stopped(
    whole: Path, evolve_once: Any, settings: dict[str, Any], stop: int, path: str
) -> None:
    name = f"stopped-{stop}"
    root = evolve_once("--trainer.max_epochs", str(stop), name=name, **settings)
    first = RunDirectory(root).report(1).stat().st_mtime_ns
    where = "last" if path == "last" else str(root / "checkpoints/last.ckpt")
    evolve_once("--trainer.max_epochs", "3", "--ckpt_path", where, name=name, **settings)
    assert_same_end(whole, root)
    assert RunDirectory(root).report(1).stat().st_mtime_ns == first
    assert not list((root / "iterations").glob("*.old-*"))


def test_the_adaptive_temperature_moved(whole: Path) -> None:
    """Otherwise the tests above would not show that it is resumed."""
    temperatures = [json.loads(RunDirectory(whole).report(i).read_text())["temperature"] for i in (1, 2, 3)]
    assert set(temperatures[1:]) - {1.0}
    state = next(s for name, s in checkpoint(whole)["callbacks"].items() if "Rollout" in name)
    assert state["temperature"] == {"temperature": temperatures[-1]}


def test_the_mprm_is_retrained_once_and_used_from_then_on(whole: Path, warm_mprm: Path) -> None:
    [folder] = (whole / "mprm").iterdir()
    assert folder.name.startswith("0002-")
    assert sorted(path.name for path in folder.iterdir()) == ["labels", "model"]
    plans = [json.loads(RunDirectory(whole).plan(i).read_text())["reward_model"] for i in (1, 2, 3)]
    assert plans[0] != plans[1] == plans[2]
    state = next(s for name, s in checkpoint(whole)["callbacks"].items() if "Rollout" in name)
    assert state["refreshed_reward_model"] == str(folder / "model")


def test_a_run_started_again_does_not_retrain_the_mprm(whole: Path, evolve_once: Any, settings: dict[str, Any]) -> None:
    copy = whole.parent / "again"
    shutil.copytree(whole, copy)
    [made] = (copy / "mprm").iterdir()
    before = (made / "model/mprm.json").stat().st_mtime_ns
    evolve_once("--trainer.max_epochs", "2", name="again", **settings)
    assert list((copy / "mprm").iterdir()) == [made]
    assert (made / "model/mprm.json").stat().st_mtime_ns == before


def test_another_seed_cannot_resume_a_run(evolve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    root = evolve("--trainer.max_epochs", "1", dynamics=False)
    config = evolve.write(evolve.settings(dynamics=False, seed=5))
    arguments = ["fit", "--config", str(config), "--ckpt_path", str(root / "checkpoints/last.ckpt")]
    assert main(arguments) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == (
        "mstar fit: error: rollout.seed is 5, but the checkpoint was made with 0: the run would not go on as it began; "
        "set the seed back, or start a new run."
    )
    assert not (root / "iterations/0002").exists()
