"""What a user gets wrong is one sentence and a status that is not 0, and nothing is left behind."""

from __future__ import annotations

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401 - its log keeps the stderr that there is at its import, which a test would close
import pytest

from mstar.__main__ import main
from mstar.prompts import PromptSource, TinyDice
from mstar.prompts.images import FileImage
from mstar.types import Prompt
from tests.integration.results import class_path


class BadImages(TinyDice):
    """Prompts whose picture is a file that cannot be decoded."""

    def __init__(self, folder: str, size: int = 4) -> None:
        super().__init__("pool", size)
        self.folder = folder

    def __getitem__(self, index: int) -> Prompt:
        return replace(super().__getitem__(index), images=(FileImage("bad.png", self.folder),))


class Unanswered(TinyDice):
    """A prompt source whose last prompt has no answer."""

    def __init__(self, size: int = 8) -> None:
        super().__init__("pool", size)

    def __getitem__(self, index: int) -> Prompt:
        prompt = super().__getitem__(index)
        return replace(prompt, answer=None) if index == self.size - 1 else prompt


class Repeated(TinyDice):
    """A prompt source that gives every prompt the same id."""

    def __init__(self, size: int = 8) -> None:
        super().__init__("pool", size)

    def __getitem__(self, index: int) -> Prompt:
        return replace(super().__getitem__(index), id="same")


class Empty(PromptSource):
    """A prompt source without prompts."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Prompt:
        raise IndexError(index)

    def index_of(self, prompt_id: str) -> int | None:
        raise AssertionError


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The status and the one line that a command ends with."""
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(str(end.code))
    lines = capsys.readouterr().err.strip().splitlines()
    complaints = [line for line in lines if line.startswith("mstar")]
    assert len(complaints) == 1, lines
    assert lines[-1] == complaints[0]
    return status, complaints[0]


ADAPTIVE = "--rollout.temperature=mstar.temperature.AdaptiveTemperature"


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--rollout.num_samples", "0"], "rollout.num_samples is 0"),
        (["--rollout.interval", "0"], "rollout.interval is 0"),
        (["--rollout.top_k", "0"], "top_k is 0"),
        (["--rollout.shard_size", "0"], "rollout.shard_size is 0"),
        (["--rollout.unlabelled_start", "-1"], "rollout.unlabelled_start is -1"),
        (["--rollout.temperature", "0"], "value is 0.0, but it must be above 0"),
        ([ADAPTIVE, "--rollout.temperature.maximum=0.1"], "maximum 0.1 is below minimum 0.3"),
        (["--rollout.engine.batch_size", "0"], "batch_size is 0"),
        (["--rollout.selection", "top_k"], "neither rollout.reward_model is set nor rollout.reward"),
        (["--rollout.reward_model", "/nowhere/mprm"], "MPRM folder '/nowhere/mprm' does not exist"),
        ([ADAPTIVE], "an adaptive rollout.temperature needs rollout.reward_model"),
        (["--data.validation", "null", ADAPTIVE], "data.validation, which is not set"),
        (["--rollout.unlabelled", "voting"], "data.unlabelled is not set"),
        (["--rollout.unlabelled_start=0.5", "--trainer.max_epochs=-1"], "counts in trainer.max_epochs, which"),
        (["--data.train.size", "0"], "TinyDice: size is 0"),
        (["--trainer.limit_train_batches", "0"], "trainer.limit_train_batches is 0, so nothing would be trained"),
        (["--trainer.barebones", "true"], "trainer: `Trainer(barebones=True, logger="),
        (["--trainer.accelerator", "mps"], "trainer.accelerator is mps, but here are only CPUs and CUDA"),
        (["--data.num_workers", "-1"], "data.num_workers is -1"),
        (["--model.lr", "-1"], "model.lr is -1.0"),
        (["--model.optimizer=torch.optim.AdamW", "--model.optimizer.weight_decay=-1"], "the optimizer refuses its"),
        (["--model.freeze=[vision, projector, language]"], "model.freeze names every part"),
        (["--model.attention", "flash_attention_2"], "--no-build-isolation 'flash-attn>=2.8,<3'"),
        (["--model.max_new_tokens", "9"], "model.max_new_tokens is 9, but rollout.engine.max_new_tokens is"),
        ([f"--data.train={class_path(Empty)}"], "data.train has no prompts"),
        ([f"--data.train={class_path(Unanswered)}"], "data.train: prompt 'pool-0-31' (row 31) has no answer"),
        ([f"--data.train={class_path(Repeated)}"], "data.train: row 1 repeats the prompt id 'same'"),
        (["--data.batch_size", "0"], "data.batch_size is 0"),
        (["--model.model_name", "/nowhere/model"], "model_name '/nowhere/model' is neither"),
        (["--ckpt_path", "/nowhere/last.ckpt"], "ckpt_path '/nowhere/last.ckpt' does not exist"),
        (["--trainer.max_epochs", "-5"], "trainer: `max_epochs` must be"),
        (["--trainer.accelerator", "abacus"], "trainer: You selected an invalid accelerator name"),
        (["--seed_everything", "-1"], "seed_everything is -1; choose a seed from 0"),
        (["--trainer.limit_train_batches", "0.5"], "trainer.limit_train_batches is 0.5, a fraction of an iteration's"),
        (["--trainer.overfit_batches", "2"], "take data.train.size and trainer.limit_train_batches"),
        (
            ["--trainer.limit_train_batches", "3", "--trainer.accumulate_grad_batches", "2"],
            "trainer.limit_train_batches is 3, which ends an epoch within an optimizer step: make it a multiple of 2",
        ),
        (["--trainer.check_val_every_n_epoch", "2"], "trainer.check_val_every_n_epoch is set, but with rollouts the"),
        (["--trainer.val_check_interval", "0.5"], "trainer.val_check_interval is set, but with rollouts the dynamics"),
        (["--trainer.val_check_interval", "00:01:00:00"], "trainer.val_check_interval is set, but with rollouts the"),
        (["--trainer.callbacks+=LearningRateFinder"], "trainer.callbacks has LearningRateFinder"),
        (
            ["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.001"],
            "trainer.callbacks has StochasticWeightAveraging, which averages before the model is loaded",
        ),
        (
            ["--trainer.callbacks+=GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 2}"],
            "trainer.callbacks has GradientAccumulationScheduler, but steps are made of one number of batches",
        ),
        (["--trainer.callbacks+=EMAWeightAveraging"], "trainer.callbacks has EMAWeightAveraging, which exports an"),
        (
            ["--trainer.callbacks+=EMAWeightAveraging", "--model.lora.rank=2"],
            "trainer.callbacks has EMAWeightAveraging, with which a run with model.lora cannot go on",
        ),
        (
            ["--model.lr_scheduler", "{class_path: lightning.pytorch.cli.ReduceLROnPlateau, "
             "init_args: {monitor: val/accuracy}}"],
            "model.lr_scheduler watches 'val/accuracy', but with rollouts the dynamics take the place of a validation",
        ),
        (
            ["--model.lr_scheduler", "{class_path: torch.optim.lr_scheduler.OneCycleLR, "
             "init_args: {max_lr: 0.001, total_steps: 3}}"],
            "OneCycleLR has total_steps 3, and none after them: set trainer.max_steps to it, or take WarmupSchedule(",
        ),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_work(
    evolve: Any, capsys: pytest.CaptureFixture[str], flags: list[str], complaint: str
) -> None:
    status, line = refused(["fit", "--config", str(evolve.write(evolve.settings())), *flags], capsys)
    assert status == 1
    assert line.startswith("mstar fit: error: ")
    assert complaint in line
    if "model.lr" not in complaint:  # what the optimizer refuses is known when the model is loaded
        assert [path.name for path in evolve.folder.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--rollout.selection", "best"], ["selection", "best", "top_k", "oracle"]),
        (["--rollout.num_samples", "many"], ["num_samples", "many"]),
        (["--rollout.engine.batchsize", "3"], ["rollout.engine.batchsize", "did you mean rollout.engine.batch_size"]),
        (
            [ADAPTIVE, "--rollout.temperature.evry", "2"],
            ["rollout.temperature.evry", "did you mean rollout.temperature.every"],
        ),
        (["--model.learning_rate", "3"], ["model.learning_rate", "did you mean model.lr?"]),
        (
            ["--model.optimizer.weight_decy", "3"],
            ["model.optimizer.weight_decy", "did you mean model.optimizer.weight_decay?"],
        ),
        (["--data.batchsize", "3"], ["data.batchsize", "did you mean data.batch_size"]),
        (["--data.train.sise", "3"], ["data.train.sise", "did you mean data.train.size?"]),
        (["--trainer.max_epoch", "3"], ["trainer.max_epoch", "did you mean trainer.max_epochs"]),
        (["--roll_out.num_samples", "3"], ["roll_out.num_samples", "did you mean rollout.num_samples?"]),
        (["--model.lr", "fast"], ["model.lr is 'fast', but it takes a number."]),
        (["--model", "mstar.modules.PolicyModul"], ["PolicyModul"]),
        (["--rollout.engine", "mstar.generation.NoEngine"], ["engine", "NoEngine"]),
    ],
)
def test_a_wrong_flag(evolve: Any, capsys: pytest.CaptureFixture[str], flags: list[str], names: list[str]) -> None:
    status, line = refused(["fit", "--config", str(evolve.write(evolve.settings())), *flags], capsys)
    assert status == 2
    assert all(name in line for name in names)
    assert len(line) < 300
    assert [path.name for path in evolve.folder.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("rollout:", "rolout:"),
        ("num_samples:", "num_sample:"),
        ("max_epochs:", "max_epoch:"),
        ("warmup_steps:", "warmupsteps:"),
        ("size: 32", "sise: 32"),
        ("mstar.prompts.TinyDice", "mstar.prompts.TinyDic"),
    ],
)
def test_a_typo_in_the_file(evolve: Any, capsys: pytest.CaptureFixture[str], right: str, wrong: str) -> None:
    config = evolve.write(evolve.settings())
    text = config.read_text()
    assert right in text
    config.write_text(text.replace(right, wrong, 1))
    status, line = refused(["fit", "--config", str(config)], capsys)
    assert status == 2
    assert wrong.partition(":")[0].rpartition(".")[2] in line
    if ": " not in right and "." not in right:
        assert re.search(rf"did you mean [\w.]*\b{right.rstrip(':')}\b", line)
    assert len(line) < 300


def test_a_config_that_is_missing_or_no_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, line = refused(["fit", "--config", "/nowhere/x.yaml"], capsys)
    assert status == 1
    assert "there is no file '/nowhere/x.yaml'" in line
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [unclosed\ndata: {}\n")
    outer = tmp_path / "outer.yaml"
    outer.write_text("data:\n  class_path: mstar.datamodules.PolicyDataModule\n  init_args: {sources: broken.yaml}\n")
    for given in (["--config", str(broken)], ["--config", str(outer)], ["--data.sources", str(broken)]):
        status, line = refused(["fit", *given], capsys)
        assert status == 1
        assert f"{broken}, line 2, is no YAML" in line


def test_an_mprm_is_no_policy(evolve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mprm.json").write_text("{}")
    fit = ["fit", "--config", str(evolve.write(evolve.settings())), "--model.model_name", str(tmp_path)]
    dice = ["--prompts=mstar.prompts.TinyDice", "--prompts.split=seed", "--prompts.size=2"]
    for given in (fit, ["annotate", "--policy", str(tmp_path), *dice, "--output", str(tmp_path / "labels")]):
        status, line = refused(given, capsys)
        assert status == 1
        assert f"'{tmp_path}' is an exported MPRM (it has mprm.json), not a policy" in line


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_an_unreadable_image(evolve: Any, capsys: pytest.CaptureFixture[str], content: bytes | None) -> None:
    if content is not None:
        (evolve.folder / "bad.png").write_bytes(content)
    flags = [f"--data.train={class_path(BadImages)}", "--data.train.folder", str(evolve.folder)]
    config = str(evolve.write(evolve.settings(dynamics=False)))
    status, line = refused(["fit", "--config", config, *flags], capsys)
    assert status == 1
    assert str(evolve.folder / "bad.png") in line
    assert sorted(path.name for path in (evolve.folder / "run/iterations/0001").iterdir()) == [
        "plan.json", "quarantine-00000.jsonl",
    ]  # fmt: skip
    assert not (evolve.folder / "run/policy").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fitt"], "there is no such command; choose one of fit, validate, test, predict, annotate, prompts, grade, "),
        (["export", "--checkpoint", "/nowhere/a.ckpt", "--output", "/nowhere/b"], "'/nowhere/a.ckpt' is neither a"),
        (["report", "--run", "/nowhere/run"], "/nowhere/run is not a folder"),
        (["annotate", "--policy", "/nowhere", "--output", "/nowhere/x", "--prompts=mstar.prompts.TinyDice",
          "--prompts.split", "pool", "--prompts.size", "4"], "model_name '/nowhere'"),
        (["annotate", "--policy", "/nowhere", "--output", "/nowhere/x", "--prompts=mstar.prompts.TinyDice",
          "--prompts.split", "pool", "--prompts.size", "0"], "TinyDice: size is 0"),
        (["annotate", "--policy", "/nowhere", "--output", "/nowhere/x", "--prompts=mstar.prompts.TinyDice",
          "--prompts.split", "pool", "--prompts.size", "4", "--settings.num_samples", "0"], "num_samples is 0"),
    ],
)  # fmt: skip
def test_the_other_commands(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    status, line = refused(arguments, capsys)
    assert status == 1
    assert line.startswith(f"mstar {arguments[0]}: error: ")
    assert complaint in line
    assert not Path("/nowhere").exists()


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, line = refused(["report", "--run", str(tmp_path)], capsys)
    assert status == 1
    assert f"{tmp_path} is not the folder of a run" in line
    assert not list(tmp_path.iterdir())


def test_no_traceback_reaches_the_terminal(evolve: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    config = str(evolve.write(evolve.settings(num_samples=0)))
    monkeypatch.setattr(sys, "argv", ["mstar", "fit", "--config", config])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("mstar", run_name="__main__", alter_sys=True)
    assert end.value.code == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("mstar fit: error: rollout.num_samples is 0")


def test_a_validation_that_no_epoch_is_long_enough_for(evolve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings = evolve.settings()
    del settings["rollout"]
    settings["data"]["init_args"]["train"]["init_args"]["split"] = "seed"
    config = str(evolve.write(settings))
    status, line = refused(["fit", "--config", config, "--trainer.val_check_interval", "50"], capsys)
    assert status == 1
    assert "`val_check_interval` (50) must be less than or equal to the number of the training batches (8)." in line
