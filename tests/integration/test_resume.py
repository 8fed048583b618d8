"""A run that was stopped and resumed ends as one that was never stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from mstar.__main__ import main
from mstar.storage import ExampleFile, RunDirectory
from tests.integration.kill_many import differences
from tests.integration.results import REFRESH, plan_of, report_of

ADAPTIVE = {
    "class_path": "mstar.temperature.AdaptiveTemperature",
    "init_args": {
        "initial": 1.0,
        "minimum": 0.5,
        "maximum": 1.5,
        "step": 0.5,
        "every": 1,
        "margin": 0.0,
        "criterion": "balance",
        "top_k_candidates": [2, 3],
    },
}


def checkpoint(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(root / "checkpoints/last.ckpt", weights_only=True)
    return loaded


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


def test_a_run_goes_on_by_the_same_command_and_ends_like_one_never_stopped(
    whole: Path, evolve_once: Any, settings: dict[str, Any]
) -> None:
    root = evolve_once("--trainer.max_epochs", "2", name="stopped", **settings)
    first = RunDirectory(root).report(1).stat().st_mtime_ns
    # A run may be moved, also one with an MPRM of its own.
    root = root.rename(root.with_name("moved"))
    # Raising the limit is one of the changes that a run may go on with.
    evolve_once("--trainer.max_epochs", "3", name="moved", **settings)
    assert differences(whole, root) == []
    assert RunDirectory(root).report(1).stat().st_mtime_ns == first
    # What the sweeps chose is what was kept, and what a checkpoint goes on with.
    chosen = [report_of(root, i)["sweep"]["top_k"] for i in (2, 3)]
    selected = [plan_of(root, i)["selection"]["top_k"] for i in (1, 2, 3)]
    assert selected == [1, *chosen]
    assert set(chosen) <= {2, 3}
    assert not list((root / "iterations").glob("*.old-*"))


def test_a_run_whose_limit_of_steps_is_raised_ends_like_one_never_limited(
    whole: Path, evolve_once: Any, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The limits end the first iteration and the second within their training, of which the dynamics are measured."""
    steps = checkpoint(whole)["global_step"]
    first = len(ExampleFile(RunDirectory(whole).examples(1)))
    assert first > 4
    measured: list[Any] = []
    for limit in (1, -(-first // 4) + 1, -1):
        flags = ["--trainer.max_epochs", "3", "--trainer.max_steps", str(limit)]
        root = evolve_once(*flags, name="limited", **settings)
        assert checkpoint(root)["global_step"] == (steps if limit == -1 else limit)
        run = RunDirectory(root)
        measured.append(report_of(root, run.iterations[-1])["dynamics"])
        capsys.readouterr()
        evolve_once(*flags, name="limited", **settings)
        said = f"nothing to do: raise trainer.max_{'epochs' if limit == -1 else 'steps'} to go on"
        assert said in capsys.readouterr().err
    assert RunDirectory(root).iterations == [0, 1, 2, 3]
    assert differences(whole, root) == []
    # What stands in the report of an iteration that was gone on with is measured at its end.
    ended = [report_of(root, i)["dynamics"] for i in (1, 2)]
    assert all(early != late for early, late in zip(measured, ended, strict=False))


def test_a_checkpoint_that_is_named_wins(whole: Path, evolve_once: Any, settings: dict[str, Any]) -> None:
    name = "named"
    root = evolve_once("--trainer.max_epochs", "1", name=name, **settings)
    kept = shutil.copy(root / "checkpoints/iteration-0001.ckpt", root / "first.ckpt")
    evolve_once("--trainer.max_epochs", "2", name=name, **settings)
    evolve_once("--trainer.max_epochs", "3", "--ckpt_path", str(kept), name=name, **settings)
    assert differences(whole, root) == []
    assert RunDirectory(root).iterations == [0, 1, 2, 3]


def test_a_finished_run_is_left_alone(
    whole: Path, evolve_once: Any, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> dict[str, int]:
        files = (path for path in whole.rglob("*") if path.is_file() and path.name != "run.lock")
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = state()
    evolve_once("--trainer.max_epochs", "3", name="whole", **settings)
    assert state() == before
    assert "is finished, so there is nothing to do: raise trainer.max_epochs to go on" in capsys.readouterr().err


def test_the_adaptive_temperature_moved(whole: Path) -> None:
    """Otherwise the tests above would not show that it is resumed."""
    temperatures = [report_of(whole, i)["temperature"] for i in (1, 2, 3)]
    assert set(temperatures[1:]) - {1.0}
    state = next(s for name, s in checkpoint(whole)["callbacks"].items() if "Rollout" in name)
    assert state["temperature"]["temperature"] == temperatures[-1]
    assert state["temperature"]["top_k"] in (2, 3)


def test_the_mprm_is_retrained_once_and_used_from_then_on(whole: Path, warm_mprm: Path) -> None:
    [folder] = (whole / "mprm").iterdir()
    assert folder.name.startswith("0002-")
    assert sorted(path.name for path in folder.iterdir()) == ["labels", "model"]
    plans = [plan_of(whole, i)["scores"]["weights"] for i in (1, 2, 3)]
    assert plans[0] != plans[1] == plans[2]
    state = next(s for name, s in checkpoint(whole)["callbacks"].items() if "Rollout" in name)
    assert state["refreshed"] == f"mprm/{folder.name}/model"


class RestoringLate(SingleDeviceStrategy):
    """Restores a checkpoint when the model is set up, as the strategies that shard weights do."""

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True


def read_report(path: Path) -> dict[str, Any]:
    """All but how long it took to measure the dynamics, which are measured again."""
    report: dict[str, Any] = json.loads(path.read_text())
    assert report["seconds"].pop("dynamics") > 0
    return report


def test_the_last_dynamics_are_measured_however_late_the_checkpoint_is_restored(evolve: Any) -> None:
    root = evolve()
    report = RunDirectory(root).report(2)
    expected = read_report(report)
    # As after a kill between the last checkpoint and the dynamics that follow it.
    for strategy in ("auto", f"{__name__}.RestoringLate"):
        report.write_text(json.dumps({key: expected[key] for key in expected.keys() - {"dynamics", "mprm"}}))
        (root / "finished.json").unlink()
        flags = ["--trainer.strategy", strategy]
        if strategy != "auto":
            flags += ["--trainer.strategy.device", "cpu"]
        evolve(*flags)
        assert read_report(report) == expected
        assert RunDirectory(root).iterations == [0, 1, 2]


def test_the_dynamics_of_an_iteration_that_a_limit_ended_are_measured_after_a_kill(evolve: Any) -> None:
    limit = ("--trainer.max_steps", "1")
    root = evolve(*limit)
    report = RunDirectory(root).report(1)
    expected = read_report(report)
    for late in ((), ("--trainer.strategy", f"{__name__}.RestoringLate", "--trainer.strategy.device", "cpu")):
        report.write_text(json.dumps({key: expected[key] for key in expected.keys() - {"dynamics", "mprm"}}))
        (root / "finished.json").unlink()
        evolve(*limit, *late)
        assert read_report(report) == expected
    # Some of it is left to train.
    evolve("--trainer.max_epochs", "1")
    assert checkpoint(root)["global_step"] > 1


def test_a_run_started_over_does_not_retrain_the_mprm(whole: Path, evolve_once: Any, settings: dict[str, Any]) -> None:
    copy = whole.parent / "again"
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / "checkpoints")
    (copy / "finished.json").unlink()
    [made] = (copy / "mprm").iterdir()
    before = (made / "model/mprm.json").stat().st_mtime_ns
    evolve_once("--trainer.max_epochs", "2", name="again", **settings)
    assert list((copy / "mprm").iterdir()) == [made]
    assert (made / "model/mprm.json").stat().st_mtime_ns == before


def test_a_changed_configuration_is_refused_key_by_key(evolve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    root = evolve("--trainer.max_epochs", "1", dynamics=False)
    before = checkpoint(root)
    settings = evolve.settings(dynamics=True, num_samples=5, seed=5)
    settings["data"]["init_args"]["num_workers"] = 1
    settings["rollout"]["engine"]["init_args"]["batch_size"] = 8
    settings["model"]["init_args"]["lr"] = 2e-3
    config = evolve.write(settings)
    assert main(["fit", "--config", str(config), "--trainer.gradient_clip_val", "1.0"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == (
        f"mstar fit: error: the run in '{root}' cannot go on with another configuration: model.lr was 0.001 and is now "
        "0.002. rollout.num_samples was 4 and is now 5. rollout.seed was not set and is now 5. "
        "trainer.gradient_clip_val was not set and is now 1.0. Set this back to go on, or choose another "
        "trainer.default_root_dir (or remove that folder) to start a new run."
    )
    assert checkpoint(root)["global_step"] == before["global_step"]
    assert not (root / "iterations/0002").exists()


def test_what_does_not_matter_may_change(evolve: Any) -> None:
    root = evolve("--trainer.max_epochs", "1", dynamics=False)
    settings = evolve.settings(dynamics=True, reward_batch_size=3)
    settings["data"]["init_args"] |= {"num_workers": 1, "eval_batch_size": 3}
    settings["rollout"]["engine"]["init_args"]["batch_size"] = 8
    config = evolve.write(settings)
    flags = ["--trainer.log_every_n_steps", "3", "--trainer.logger", "false", "--data.test", "null"]
    assert main(["fit", "--config", str(config), *flags]) == 0
    assert checkpoint(root)["epoch"] == 1
    # The dynamics that the first call did not measure are measured before the run goes on.
    assert all("dynamics" in report_of(root, i) for i in (1, 2))
