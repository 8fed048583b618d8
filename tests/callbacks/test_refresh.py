"""When and where the MPRM is retrained; the retraining itself is in tests/integration/test_resume.py."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

import mstar.callbacks.refresh
import mstar.callbacks.signals
import mstar.datamodules.quarantined
from mstar.annotation import AnnotationSettings, ContrastSettings
from mstar.annotation.annotation import Annotation
from mstar.callbacks import IterationCheckpoint, RewardModelRefresh, RolloutCallback
from mstar.callbacks.iteration_log import IterationLog
from mstar.callbacks.refresh import drop_reward_models
from mstar.callbacks.rollout_progress import earliest_checkpoint
from mstar.callbacks.rollout_stages import RolloutStages
from mstar.datamodules import PolicyDataModule
from mstar.datamodules.step_labels import StepLabelDataModule
from mstar.errors import ConfigError
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader
from mstar.interruption import Interrupted, stopping_on_signals
from mstar.models.lora import LoraSettings
from mstar.modules import MPRMModule, PolicyModule
from mstar.prompts import TinyDice
from mstar.prompts.prompt_check import PromptCheck
from mstar.storage import RunDirectory, write_json, write_step_labels
from mstar.types import StepLabels


class Stopped(Exception):
    """Raised instead of annotating."""


@pytest.fixture
def annotated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, AnnotationSettings]]:
    seen: list[tuple[Path, AnnotationSettings]] = []

    def annotate(prompts: Any, engine: Any, grader: Any, settings: AnnotationSettings, output: Path, **_: Any) -> None:
        seen.append((output, settings))
        raise Stopped

    monkeypatch.setattr(mstar.callbacks.refresh, "annotate", annotate)
    return seen


def start(root: Path, iteration: int = 2, seed: int = 0, **settings: Any) -> Path:
    refresh = RewardModelRefresh([2], TinyDice("refresh", 4), **settings)
    policy = PolicyModule("mstar/tiny-idefics3")
    policy.configure_model()
    check = PromptCheck(policy.renderer)
    rollout = RolloutCallback(selection="random", engine=TransformersEngine(), grader=AnswerGrader(), seed=seed)
    return refresh.run(
        rollout.settings.engine,
        rollout.settings.grader,
        rollout.settings.seed,
        policy,
        check,
        RunDirectory(root),
        iteration,
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"iterations": [0]}, "iterations count from 1"),
        ({"iterations": [2], "epochs": 0}, "epochs is 0"),
        ({"iterations": [2], "pairwise_margin": -1}, "refresh_reward_model.pairwise_margin is -1"),
    ],
)
def test_settings_that_cannot_work(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        RewardModelRefresh(prompts=TinyDice("refresh", 4), **arguments)


def test_an_mprm_with_adapters_learns_ten_times_as_fast_unless_a_rate_is_given() -> None:
    refresh = RewardModelRefresh([2], TinyDice("refresh", 4))
    whole, adapted = (PolicyModule("mstar/tiny-idefics3", lora=lora) for lora in (None, LoraSettings()))
    assert (refresh.rate(whole), refresh.rate(adapted)) == (1e-6, 1e-5)
    assert RewardModelRefresh([2], TinyDice("refresh", 4), lr=3e-4).rate(adapted) == 3e-4


def test_each_setting_and_iteration_has_a_folder_of_its_own(
    tmp_path: Path, annotated: list[tuple[Path, AnnotationSettings]]
) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {},
        {"lr": 1e-3},
        {"head_lr": 1e-3},
        {"epochs": 2},
        {"iteration": 3},
        {"seed": 1},
    ]
    variants += [{"contrast": ContrastSettings()}, {"pairwise_margin": 0.3}]
    for settings in variants:
        with pytest.raises(Stopped):
            start(tmp_path, **settings)
    folders = [output.parent.name for output, _ in annotated]
    assert folders[0] == folders[1]
    assert len(set(folders)) == 8
    assert folders[0].startswith("0002-")
    assert annotated[0][0].parent.parent == tmp_path / "mprm"
    assert annotated[0][1].seed != annotated[5][1].seed


def test_a_whole_model_is_found_again(tmp_path: Path, annotated: list[tuple[Path, AnnotationSettings]]) -> None:
    with pytest.raises(Stopped):
        start(tmp_path)
    model = annotated[0][0].parent / "model"
    model.mkdir(parents=True)
    assert start(tmp_path) == model
    assert len(annotated) == 1


@pytest.fixture
def train(tmp_path: Path) -> Any:
    """Trains an MPRM on six responses to three prompts, as within a run."""
    prompts = TinyDice("refresh", 3)
    policy = PolicyModule("mstar/tiny-idefics3")
    policy.configure_model()
    policy.export(tmp_path / "policy")
    steps = ("one\n", "Answer: 1")
    rows = [
        StepLabels(prompt.id, f"{number}{''.join(steps)}", (f"{number}{steps[0]}", steps[1]), (1, 0), (2, 1), False)
        for prompt in prompts
        for number in range(2)
    ]

    def train(
        long_response: bool = False,
        gradient_checkpointing: bool = False,
        freeze: Any = (),
        workers: int = 0,
        **settings: Any,
    ) -> Path:
        policy.gradient_checkpointing, policy.freeze_parts = gradient_checkpointing, list(freeze)
        first = "one " * 400 + "\n"
        longer = replace(rows[0], response=f"{first}{steps[1]}", steps=(first, steps[1]))
        labels = [longer, *rows[1:]] if long_response else rows
        write_step_labels(tmp_path / "labels/labels-00000.parquet", labels)
        check = PromptCheck(policy.renderer, max_example_tokens=500, max_bad_share=0.25)
        refresh = RewardModelRefresh([2], prompts, batch_size=2, **settings)
        refresh._train(policy, tmp_path, check, 0, progress=False, num_workers=workers)
        return tmp_path / "model"

    return train


def test_slurms_warning_within_the_retraining_is_left_to_the_fit_around_it(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr(mstar.callbacks.signals, "requeue", lambda: asked.append("requeue"))
    with stopping_on_signals():
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Interrupted) as end:
            train()
    assert end.value.received == signal.SIGUSR1
    assert asked == []


def test_lightning_s_news_of_the_retraining_are_not_told_as_those_of_the_fit(
    train: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lightning.pytorch")
    train()
    assert [record for record in caplog.records if record.name.startswith("lightning")] == []
    Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert any("GPU available" in message for message in caplog.messages)


def test_the_schedule_lasts_for_the_retraining_s_own_steps(train: Any) -> None:
    """Six responses, two in a batch."""
    train(lr_scheduler=partial(OneCycleLR, max_lr=1e-3, total_steps=3))
    with pytest.raises(ConfigError, match=r"OneCycleLR has total_steps 2, and none after them: set it to 3, the steps"):
        train(lr_scheduler=partial(OneCycleLR, max_lr=1e-3, total_steps=2))


def test_a_schedule_of_the_retraining_that_cannot_be_made_is_refused_before_the_run() -> None:
    refresh = RewardModelRefresh([2], TinyDice("refresh", 4), lr_scheduler=ReduceLROnPlateau)
    callback = RolloutCallback(selection="random", refresh_reward_model=refresh)
    trainer = Trainer(accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="ReduceLROnPlateau needs to know what it looks at"):
        callback.check(trainer, PolicyModule("mstar/tiny-idefics3"), PolicyDataModule(TinyDice("pool", 4)))


def test_the_retraining_has_all_labels_whatever_the_number_of_processes(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two processes, one trains and the other waits; one bad row of six is less than a quarter, of three more.
    monkeypatch.setattr(mstar.datamodules.quarantined, "world_size", lambda: 2)
    model = train(long_response=True)
    assert (model / "mprm.json").is_file()
    [line] = (model.parent / "quarantine/labels.jsonl").read_text().splitlines()
    assert "too_long" in line


def test_the_retraining_has_the_settings_of_the_refresh_and_starts_from_the_policy(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def make(model_name: str, **settings: Any) -> MPRMModule:
        seen.update(settings, start=model_name)
        return MPRMModule(model_name, **settings)

    def load(*args: Any, **settings: Any) -> StepLabelDataModule:
        seen.update(contrast=settings["contrast"], num_workers=settings["num_workers"])
        return StepLabelDataModule(*args, **settings)

    monkeypatch.setattr(mstar.callbacks.refresh, "MPRMModule", make)
    monkeypatch.setattr(mstar.callbacks.refresh, "StepLabelDataModule", load)
    train()
    # The head starts from random weights, and so has a rate of its own.
    expected = {
        "start": str(tmp_path / "policy"), "lr": 1e-6, "head_lr": 1e-4, "pairwise_weight": 0.5,
        "step_logprob_features": True, "gradient_checkpointing": False, "contrast": None, "num_workers": 0,
    }  # fmt: skip
    assert seen.items() >= expected.items()
    settings = {
        "pairwise_weight": 0.25, "step_logprob_features": False, "contrast": ContrastSettings(each=2),
        "labels": "hard", "pairwise_margin": 0.3, "class_balance": True, "head_size": 8,
    }  # fmt: skip
    train(gradient_checkpointing=True, freeze=["vision"], workers=1, **settings)
    assert seen.items() >= {**settings, "gradient_checkpointing": True, "freeze": ["vision"], "num_workers": 1}.items()


def test_the_retraining_makes_its_batches_in_as_many_processes_as_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Mock(data=Mock(num_workers=3), run=RunDirectory(tmp_path))
    stages.settings.refresh = RewardModelRefresh([2], TinyDice("refresh", 4))
    passed: list[Any] = []

    def run(*arguments: Any) -> Path:
        passed.extend(arguments)
        return tmp_path / "mprm/0002/model"

    monkeypatch.setattr(stages.settings.refresh, "run", run)
    log = IterationLog(stages.run, Mock(), 2)
    assert RolloutStages.ready_reward(stages, log, None) == "mprm/0002/model"
    assert passed[-1] == 3
    assert log.report["refreshed"] is True
    assert log.report["seconds"]["refresh"] >= 0


def test_the_engine_rests_while_the_mprm_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """vLLM's share of the GPU would lie beside a second model with its optimizer's states."""
    done: list[str] = []

    def annotate(*_: Any, **__: Any) -> Annotation:
        done.append("annotate")
        return Annotation(num_responses=24)

    monkeypatch.setattr(mstar.callbacks.refresh, "annotate", annotate)
    monkeypatch.setattr(TransformersEngine, "rest", lambda _: done.append("rest"))
    monkeypatch.setattr(RewardModelRefresh, "_train", lambda *_: done.append("train"))
    caplog.set_level("INFO", "mstar")
    start(tmp_path)
    assert done == ["annotate", "rest", "train"]
    assert caplog.messages[-1] == "iteration 2: the MPRM is trained anew, on 24 labelled responses"


def test_after_a_refresh_the_engine_is_given_the_weights_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Stages:
        run, measures_dynamics, refreshed = RunDirectory(tmp_path), False, "mprm/0002/model"

        def make_drift_check(self) -> None:
            return None

        def hand_over(self, check: None) -> None:
            done.append("weights")

        def ready_reward(self, log: IterationLog, refreshed: str | None) -> str:
            done.append("reward")
            return self.refreshed

        def sweep_is_due(self, iteration: int) -> bool:
            raise Stopped

    monkeypatch.setattr(RolloutStages, "of", lambda *_: Stages())
    callback = RolloutCallback(selection="random")
    for _ in range(2):
        with pytest.raises(Stopped):
            callback.on_train_epoch_start(Mock(current_epoch=1), Mock())
    # The second time it is the same MPRM, for which nothing was trained.
    assert done == ["weights", "reward", "weights", "weights", "reward"]


def _made(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob("mprm/*/model"))


def _run_of_refreshes(root: Path, numbers: Sequence[int], upto: int) -> None:
    """The files of a run that retrained its MPRM before some iterations, the end of ``upto`` being the present."""
    for number in range(1, upto + 1):
        write_json(RunDirectory(root).report(number), {"refreshed": True} if number in numbers else {})
    for number in numbers:
        (root / f"mprm/{number:04d}-a/model").mkdir(parents=True)
        (root / f"mprm/{number:04d}-a/labels").mkdir()


@pytest.mark.parametrize(
    ("checkpoint", "named", "refreshes", "iteration", "kept"),
    [
        # The latest, and that of the checkpoint before.
        (IterationCheckpoint(), [6], [1, 2, 3, 4, 5, 6], 6, [5, 6]),
        (IterationCheckpoint(), [6], [1, 3, 4], 6, [4]),
        (IterationCheckpoint(), [6], [2, 6], 6, [2, 6]),
        (IterationCheckpoint(), [], [1, 2], 2, [1, 2]),
        (IterationCheckpoint(keep_last=4), [3, 4, 5, 6], [1, 2, 3, 4, 5, 6], 6, [3, 4, 5, 6]),
        (IterationCheckpoint(keep_all=True), [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], 6, [1, 2, 3, 4, 5, 6]),
        # previous.ckpt is of iteration 3, or of a part of one after it.
        (IterationCheckpoint(every=3), [6], [1, 2, 3, 4, 5, 6], 6, [3, 4, 5, 6]),
        (IterationCheckpoint(every=3), [3], [1, 2, 3, 4, 5], 5, [1, 2, 3, 4, 5]),
        (None, [], [1, 2, 3], 3, [1, 2, 3]),
    ],
)
def test_a_retrained_mprm_stays_as_long_as_a_checkpoint_may_need_it(
    tmp_path: Path,
    checkpoint: IterationCheckpoint | None,
    named: list[int],
    refreshes: list[int],
    iteration: int,
    kept: list[int],
) -> None:
    _run_of_refreshes(tmp_path, refreshes, iteration)
    for number in named:
        (tmp_path / f"checkpoints/iteration-{number:04d}.ckpt").mkdir(parents=True)
    callbacks = [] if checkpoint is None else [checkpoint]
    trainer = Mock(default_root_dir=str(tmp_path), current_epoch=iteration - 1, checkpoint_callbacks=callbacks)
    drop_reward_models(RunDirectory(tmp_path), earliest_checkpoint(trainer))
    assert _made(tmp_path) == [f"{number:04d}-a" for number in kept]
    assert len(list(tmp_path.glob("mprm/*/labels"))) == len(refreshes)
    # Beside other callbacks' checkpoints all stay.
    trainer.checkpoint_callbacks = [*callbacks, ModelCheckpoint()]
    trainer.current_epoch += 3
    drop_reward_models(RunDirectory(tmp_path), earliest_checkpoint(trainer))
    assert _made(tmp_path) == [f"{number:04d}-a" for number in kept]


def test_an_mprm_that_the_run_did_not_use_keeps_none_from_staying(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was retrained before iteration 3, the run was begun again from 2, and now it is retrained before 5 alone."""
    _run_of_refreshes(tmp_path, [1, 3, 5], 5)
    write_json(RunDirectory(tmp_path).report(3), {})
    trainer = Mock(default_root_dir=str(tmp_path), current_epoch=4, checkpoint_callbacks=[IterationCheckpoint()])
    drop_reward_models(RunDirectory(tmp_path), earliest_checkpoint(trainer))
    assert _made(tmp_path) == ["0001-a", "0003-a", "0005-a"]
    write_json(RunDirectory(tmp_path).report(6), {})
    trainer.current_epoch = 5
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            drop_reward_models(RunDirectory(tmp_path), earliest_checkpoint(trainer))
    assert _made(tmp_path) == ["0005-a"]
    # Each is told once.
    assert sorted(message.partition(":")[0] for message in caplog.messages) == [
        f"'{tmp_path / name}' is deleted" for name in ("mprm/0001-a/model", "mprm/0003-a/model")
    ]


@pytest.mark.parametrize("name", ["iteration-0002-good", "good", "epoch=1-step=8"])
def test_names_of_ones_own_stop_nothing(tmp_path: Path, name: str) -> None:
    _run_of_refreshes(tmp_path, [1, 3, 5], 6)
    copy = tmp_path / f"checkpoints/{name}.ckpt"
    copy.mkdir(parents=True)
    for own in ("last", "previous", "iteration-0006", ".unfinished"):
        (tmp_path / f"checkpoints/{own}.ckpt").mkdir()
    (tmp_path / "mprm/3b-old/model").mkdir(parents=True)
    trainer = Mock(default_root_dir=str(tmp_path), current_epoch=5, checkpoint_callbacks=[IterationCheckpoint()])
    drop_reward_models(RunDirectory(tmp_path), earliest_checkpoint(trainer))
    # What the copy needs is not known.
    assert _made(tmp_path) == ["0001-a", "0003-a", "0005-a", "3b-old"]
    copy.rmdir()
    drop_reward_models(RunDirectory(tmp_path), earliest_checkpoint(trainer))
    assert _made(tmp_path) == ["0005-a", "3b-old"]
