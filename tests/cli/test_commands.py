"""The command line: overrides, the saved configuration, and the help."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import mstar.cli.commands
import mstar.cli.lightning_cli
from mstar.__main__ import main
from mstar.callbacks import RolloutCallback
from mstar.interruption import Interrupted
from tests.cli.saved_config import saved

OVERRIDES = [
    "--rollout.num_samples", "3", "--model.lr", "3e-4", "--trainer.max_epochs", "1", "--rollout.temperature", "0.7",
    "--data.batch_size", "5", "--rollout.engine.batch_size", "16", "--seed_everything", "4",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(evolve_once: Any) -> Path:
    root: Path = evolve_once(*OVERRIDES)
    return root


def test_overrides_reach_the_run(run: Path) -> None:
    config = saved(run)
    rollout = config["rollout"]["init_args"]
    assert rollout["num_samples"] == 3
    assert rollout["temperature"] == 0.7
    assert rollout["engine"]["init_args"]["batch_size"] == 16
    assert config["model"]["init_args"]["lr"] == 3e-4
    assert config["trainer"]["max_epochs"] == 1
    assert config["data"]["init_args"]["batch_size"] == 5
    report = json.loads((run / "iterations/0001/report.json").read_text())
    assert report["funnel"]["generated"] == 16 * 3
    assert report["temperature"] == 0.7
    assert not (run / "iterations/0002").exists()


def test_the_last_checkpoint_is_tested_or_none(run: Path, evolve_once: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def accuracy(*flags: str) -> str:
        capsys.readouterr()
        evolve_once(*OVERRIDES, *flags, command="test")
        printed = capsys.readouterr()
        assert ("before any training of this run; the run in" in printed.err) == (not flags)
        return printed.out

    untrained = accuracy()
    last = accuracy("--ckpt_path", "last")
    assert last == accuracy("--ckpt_path", str(run / "checkpoints/last.ckpt"))
    # All prompts are one batch. What it writes it writes elsewhere.
    assert last == accuracy("--ckpt_path", "last", "--trainer.fast_dev_run", "true")
    assert "test/accuracy" in last
    assert "test/accuracy" in untrained
    given = ["--config", str(evolve_once.folder / "run.yaml"), "--trainer.default_root_dir", str(run.parent / "none")]
    # Lightning would warn, and measure a model that was never trained.
    theirs = ["--trainer.callbacks", "lightning.pytorch.callbacks.ModelCheckpoint"]
    for command, more in (("test", []), ("predict", []), ("validate", theirs)):
        assert main([command, *given, *more, "--ckpt_path", "last"]) == 1
        assert f"ckpt_path is 'last', but '{run.parent}/none/checkpoints' has no checkpoint" in capsys.readouterr().err
    assert not (run.parent / "none").exists()


@pytest.mark.parametrize("command", ["test", "predict"])
def test_a_command_that_a_model_or_its_data_have_nothing_for_is_an_error(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--config", "tiny/mprm.yaml", "--trainer.default_root_dir", str(tmp_path)]) == 1
    said = "MPRMModule with StepLabelDataModule does not have: choose fit or validate or another model or data"
    assert said in capsys.readouterr().err


def test_validation_without_prompts_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--trainer.default_root_dir", str(tmp_path)]
    assert main(["validate", "--config", "tiny/warmup.yaml", *root]) == 1
    assert "data.validation is not set, but 'validate' needs prompts" in capsys.readouterr().err


def test_the_saved_config_reruns_the_run(run: Path) -> None:
    again = run.parent / "again"
    config = str(run / "config.yaml")
    assert main(["fit", "--config", config, "--trainer.default_root_dir", str(again)]) == 0
    first, second = saved(run), saved(again)
    assert second["trainer"].pop("default_root_dir") == str(again)
    del first["trainer"]["default_root_dir"]
    assert second == first
    states = [torch.load(r / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for r in (run, again)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_only_prompts_that_are_used_are_announced(
    evolve: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mstar.cli.lightning_cli.MstarCLI, "fit", lambda *_, **__: None)
    config = str(evolve.write(evolve.settings()))
    votes = ["--data.unlabelled", "mstar.prompts.TinyDice", "--data.unlabelled.split", "annotation"]
    for use in ("off", "voting"):
        assert main(["fit", "--config", config, *votes, "--data.unlabelled.size=8", "--rollout.unlabelled", use]) == 0
        said = capsys.readouterr().err
        assert "data.train: " in said
        assert ("data.unlabelled: 8 prompts" in said) == (use == "voting")


def test_configs_are_merged_in_order(evolve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("rollout: {top_k: 3, selection: all}\ntrainer: {max_epochs: 9}\n")
    base = evolve.write(evolve.settings())
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(base), "--config", str(overlay), "--rollout.top_k", "4", "--print_config"])
    assert end.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    rollout = printed["rollout"]["init_args"]
    assert (rollout["top_k"], rollout["selection"], rollout["num_samples"]) == (4, "all", 4)
    assert printed["trainer"]["max_epochs"] == 9


def test_off_in_yaml_needs_no_quotes(evolve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("rollout: {unlabelled: off}\n")
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(evolve.write(evolve.settings())), "--config", str(overlay), "--print_config"])
    assert end.value.code == 0
    read = yaml.safe_load(capsys.readouterr().out)["rollout"]["init_args"]["unlabelled"]
    assert RolloutCallback(selection="random", unlabelled=read).settings.unlabelled == "off"


def test_configured_callbacks_replace_the_defaults(evolve: Any) -> None:
    flags = [
        "--trainer.callbacks+", "mstar.callbacks.ExportCallback", "--trainer.callbacks.folder",
        str(evolve.folder / "elsewhere"), "--trainer.max_epochs", "1", "--trainer.enable_checkpointing", "false",
    ]  # fmt: skip
    root = evolve(*flags, dynamics=False)
    assert (evolve.folder / "elsewhere/model.safetensors").is_file()
    assert not (root / "policy").exists()
    assert not (root / "checkpoints").exists()


def test_fit_help_shows_what_the_classes_take(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for line in (
        "num_samples: Responses drawn for a prompt",
        "refresh_reward_model: Retrain the MPRM",
        "mstar.modules.policy.PolicyModule:",
        "num_samples: K, the responses that are sampled",
        "train: Labelled prompts",
        "--trainer.max_epochs",
    ):
        assert line in text


def test_the_tools_help_shows_every_option_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["export", "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Writes a Lightning checkpoint as a folder" in text
    assert "--output OUTPUT The folder to write: a new or an empty one" in text
    assert "Raises" not in text


def test_a_checkpoint_callback_given_by_flag_takes_the_configurations_place(evolve: Any) -> None:
    settings = evolve.settings("every")
    settings["trainer"]["callbacks"] = [{"class_path": "mstar.callbacks.IterationCheckpoint"}]
    config = str(evolve.write(settings, "every"))
    flags = ["--trainer.callbacks+=mstar.callbacks.IterationCheckpoint", "--trainer.callbacks.every_n_steps=200"]
    assert main(["fit", "--config", config, "--trainer.max_epochs", "1", *flags]) == 0
    assert (evolve.folder / "every/checkpoints/last.ckpt").is_file()


def test_a_checkpoint_named_by_its_whole_path_is_held_to_the_configuration_too(
    evolve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = evolve("--trainer.max_epochs", "1").resolve()
    config = str(evolve.folder / "run.yaml")
    flags = ["--ckpt_path", str(root / "checkpoints/last.ckpt"), "--rollout.num_samples", "5"]
    assert main(["fit", "--config", config, *flags]) == 1
    assert "rollout.num_samples was 4 and is now 5" in capsys.readouterr().err


@pytest.mark.parametrize("rollouts", [True, False])
def test_a_fast_dev_run_leaves_nothing_behind(evolve: Any, rollouts: bool) -> None:
    """It tries a step of everything; a run in the same folder afterwards is a new one."""
    settings = evolve.settings()
    settings["trainer"] |= {
        "fast_dev_run": True,
        "callbacks": [
            {"class_path": "mstar.callbacks.ExportCallback", "init_args": {"folder": str(evolve.folder / "out")}}
        ],
    }
    if not rollouts:
        del settings["rollout"]
        settings["data"]["init_args"]["train"]["init_args"]["split"] = "seed"
    config = evolve.write(settings)
    before = sorted(evolve.folder.rglob("*"))
    assert main(["fit", "--config", str(config)]) == 0
    assert sorted(evolve.folder.rglob("*")) == before


def test_an_annotation_writes_its_settings_when_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(output: str, begun: bool = True, claimed: Callable[[], None] | None = None) -> None:
        """Is killed, whatever by."""
        Path(output).mkdir()
        if begun and claimed is not None:
            claimed()
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("mstar.annotation.command.annotate_policy", killed)
    for name, begun in (("a", True), ("b", False)):
        with pytest.raises(Interrupted):
            mstar.cli.commands.run(["annotate", f"--output={tmp_path / name}", f"--begun={begun}"])
        assert (tmp_path / name / "config.yaml").exists() is begun
    assert yaml.safe_load((tmp_path / "a" / "config.yaml").read_text()) == {
        "output": str(tmp_path / "a"),
        "begun": True,
    }
