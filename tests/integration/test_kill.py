"""A run that is killed with -9 at telling moments, or asked to stop, ends as one that was left alone."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mstar.__main__ import main
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice
from mstar.storage import ExampleFile, RunDirectory, write_step_labels
from mstar.types import StepLabels
from tests.integration.kill_many import differences
from tests.integration.results import REFRESH

TINY_IMPLICIT = Path(__file__).parents[2] / "configs/tiny/implicit.yaml"

ADAPTIVE = {
    "class_path": "mstar.temperature.AdaptiveTemperature",
    "init_args": {"initial": 1.0, "minimum": 0.5, "maximum": 1.5, "step": 0.5, "every": 1, "margin": 0.0},
}
# Files that appear in the course of a run, and what it is then about to do.
MOMENTS = [
    ("iterations/0001/plan.json", "sampling"),
    ("iterations/0001/responses-00000.parquet", "sampling of the next shard"),
    ("iterations/0001/examples.parquet", "exchange of the training data"),
    ("checkpoints/last.ckpt", "an optimizer step"),
    ("checkpoints/iteration-0001.ckpt", "the last steps of a checkpoint, or the dynamics"),
    ("mprm/0002-*/policy", "training of the new MPRM"),
    ("sweeps/0002.json", "sampling at the temperature that was chosen"),
    ("checkpoints/iteration-0002.ckpt", "the last dynamics, or the export"),
]


@dataclass(frozen=True)
class Driver:
    """Starts ``mstar`` commands, and kills them."""

    forker: Any
    log: Path

    def finish(self, *arguments: str) -> None:
        """Runs a command to its end."""
        self.forker.run(arguments, self.log)

    def stop_when(self, root: Path, pattern: str, number: int, *arguments: str) -> int:
        """Sends a signal when a file appears; returns the exit status, negative for a process that was killed."""
        before = set(root.glob(pattern))
        child = self.forker.start(arguments, self.log)
        deadline = time.monotonic() + 120
        while not set(root.glob(pattern)) - before:
            os.kill(child.pid, 0)
            assert time.monotonic() < deadline, f"{pattern} did not appear:\n{self.log.read_text()}"
            time.sleep(0.005)
        os.kill(child.pid, number)
        status: int = child.wait()
        return status


@pytest.fixture(scope="module")
def driver(forker: Any, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    log = tmp_path_factory.mktemp("driver") / "log"
    log.touch()
    return Driver(forker, log)


@pytest.fixture(scope="module")
def config(evolve_once: Any, warm_mprm: Path) -> Path:
    """All that a run can have to carry, with checkpoints within iterations."""
    settings = evolve_once.settings(
        "whole", selection="top_k", top_k=2, reward_model=str(warm_mprm), temperature=ADAPTIVE,
        refresh_reward_model=REFRESH, shard_size=8, balance={"hard": 0.5, "repeat_hard": 3},
    )  # fmt: skip
    checkpoints = {"class_path": "mstar.callbacks.IterationCheckpoint", "init_args": {"every_n_steps": 2}}
    settings["trainer"] |= {"callbacks": [checkpoints], "accumulate_grad_batches": 2}
    settings["data"]["init_args"]["batch_size"] = 1
    path: Path = evolve_once.write(settings, "whole")
    return path


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    assert main(["fit", "--config", str(config)]) == 0
    return config.with_suffix("")


@pytest.mark.timeout(300)
def test_a_run_that_is_killed_again_and_again_ends_like_one_left_alone(
    whole: Path, config: Path, driver: Driver
) -> None:
    root = whole.parent / "killed"
    command = ["fit", "--config", str(config), "--trainer.default_root_dir", str(root)]
    for pattern, moment in MOMENTS:
        status = driver.stop_when(root, pattern, signal.SIGKILL, *command)
        # After the last of these moments, little is left to do.
        assert status == -signal.SIGKILL or (status == 0 and pattern == MOMENTS[-1][0]), moment
    driver.finish(*command)
    assert differences(whole, root) == []
    # What was trained on counted by its weight, before the kills and after them.
    for iteration in (1, 2):
        assert {e.weight for e in ExampleFile(RunDirectory(root).examples(iteration))} == {1.0, 3.0}
    # What the killed run has too much would be told, too.
    extra = RunDirectory(root).iteration(2) / "extra"
    extra.touch()
    assert differences(whole, root) == [f"{extra} has no counterpart"]
    assert not list((root / "iterations").glob("*.old-*"))
    assert not list(root.rglob(".*"))
    # TensorBoard shows the same: what was logged again is equal. A kill may lose what was logged last.
    shown, expected = scalars(root), scalars(whole)
    assert shown.keys() == expected.keys()
    for tag, values in expected.items():
        assert shown[tag].items() <= values.items()
        assert len(values) - len(shown[tag]) <= 1, tag


def scalars(root: Path) -> dict[str, dict[int, float]]:
    reader = EventAccumulator(str(root / "tensorboard/version_0"), size_guidance={"scalars": 0})
    reader.Reload()
    found: dict[str, dict[int, float]] = {}
    for tag in reader.Tags()["scalars"]:
        if tag.startswith("time/") or tag == "rollout/tokens_per_second":
            continue
        steps = found.setdefault(tag, {})
        for event in reader.Scalars(tag):
            assert steps.setdefault(event.step, event.value) == event.value, f"{tag} at {event.step}"
    return found


@pytest.mark.timeout(300)
def test_signals_stop_the_run_with_their_status_and_nothing_is_lost(whole: Path, config: Path, driver: Driver) -> None:
    root = whole.parent / "stopped"
    command = ["fit", "--config", str(config), "--trainer.default_root_dir", str(root)]
    moments = [
        (signal.SIGTERM, 143, "iterations/0001/responses-00000.parquet"),
        (signal.SIGINT, 130, "checkpoints/last.ckpt"),
        (signal.SIGTERM, 143, "mprm/0002-*/policy"),
    ]
    for number, status, pattern in moments:
        told = len(driver.log.read_text())
        began = time.monotonic()
        assert driver.stop_when(root, pattern, number, *command) == status, pattern
        assert time.monotonic() - began < 60
        said = driver.log.read_text()[told:]
        assert f"mstar fit: stopped by {signal.Signals(number).name}; the same command goes on." in said
        # The second shard was not begun, or the run did not get to the next iteration.
        assert not (root / "iterations/0002").exists()
        if "responses" in pattern:
            assert not (root / "iterations/0001/responses-00001.parquet").exists()
    driver.finish(*command)
    assert differences(whole, root) == []


@pytest.mark.timeout(300)
def test_adapters_that_learn_by_advantages_go_on_within_an_iteration(evolve: Any, driver: Driver) -> None:
    settings = evolve.settings("whole", method="nft", dynamics=False)
    settings["model"]["init_args"]["lora"] = {"rank": 2}
    checkpoints = {"class_path": "mstar.callbacks.IterationCheckpoint", "init_args": {"every_n_steps": 1}}
    settings["trainer"] |= {"callbacks": [checkpoints], "max_epochs": 1}
    config = evolve.write(settings, "nft")
    assert main(["fit", "--config", str(config)]) == 0
    whole, root = evolve.folder / "whole", evolve.folder / "killed"
    examples = ExampleFile(RunDirectory(whole).examples(1))
    assert len({(e.weight, e.advantage) for e in examples}) > 2
    command = ["fit", "--config", str(config), "--trainer.default_root_dir", str(root)]
    assert driver.stop_when(root, "checkpoints/last.ckpt", signal.SIGKILL, *command) == -signal.SIGKILL
    driver.finish(*command)
    assert differences(whole, root) == []
    assert scalars(root)["train/loss"].items() <= scalars(whole)["train/loss"].items()


@pytest.mark.timeout(300)
def test_an_implicit_reward_that_is_killed_ends_like_one_left_alone(
    tmp_path: Path, driver: Driver, warm_policy: Path
) -> None:
    rows = []
    for number, prompt in enumerate(TinyDice("annotation", 12)):
        lines = prompt.reference_responses[0].splitlines(keepends=True)
        for right in (True, False):
            steps = tuple(lines if right else (lines[0], "0\n", *lines[2:]))
            none = (0,) * len(steps)
            rows.append(StepLabels(prompt.id, "".join(steps), steps, none, none, right, -5.0 - number))
    write_step_labels(tmp_path / "labels/labels-00000.parquet", rows)
    command = [
        "fit", f"--config={TINY_IMPLICIT}", f"--model.model_name={warm_policy}", f"--data.labels={tmp_path / 'labels'}",
        "--data.prompts.size=12", "--data.batch_size=6", "--data.validation_share=0.25", "--trainer.max_epochs=2",
        "--trainer.callbacks=mstar.callbacks.IterationCheckpoint", "--trainer.callbacks.every_n_steps=1",
        "--trainer.enable_progress_bar=false", "--trainer.default_root_dir",
    ]  # fmt: skip
    whole, root = tmp_path / "whole", tmp_path / "killed"
    assert main([*command, str(whole)]) == 0
    for pattern in ("checkpoints/last.ckpt", "checkpoints/iteration-0001.ckpt"):
        assert driver.stop_when(root, pattern, signal.SIGKILL, *command, str(root)) == -signal.SIGKILL
    driver.finish(*command, str(root))
    assert differences(whole, root) == []
    before, after = load_file(warm_policy / "model.safetensors"), load_file(root / "policy/model.safetensors")
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.timeout(300)
def test_supervised_training_and_annotation_go_on_too(evolve: Any, driver: Driver, warm_policy: Path) -> None:
    """The demo's other stages: a plain fit with validation after every epoch, and step labels."""
    settings = evolve.settings("whole")
    del settings["rollout"]
    settings["data"]["init_args"]["train"]["init_args"] = {"split": "seed", "size": 24}
    checkpoints = {"class_path": "mstar.callbacks.IterationCheckpoint", "init_args": {"every_n_steps": 2}}
    settings["trainer"]["callbacks"] = [checkpoints]
    config = evolve.write(settings, "sft")
    assert main(["fit", "--config", str(config)]) == 0
    root = evolve.folder / "killed"
    command = ["fit", "--config", str(config), "--trainer.default_root_dir", str(root)]
    for pattern in ("checkpoints/last.ckpt", "checkpoints/iteration-0001.ckpt", "checkpoints/iteration-0002.ckpt"):
        assert driver.stop_when(root, pattern, signal.SIGKILL, *command) == -signal.SIGKILL
    driver.finish(*command)
    assert differences(evolve.folder / "whole", root) == []

    annotate = [
        "annotate", "--policy", str(warm_policy), "--prompts", "mstar.prompts.TinyDice", "--prompts.split",
        "annotation", "--prompts.size", "12", "--settings.shard_size", "4", "--settings.num_samples", "4",
        "--engine", "mstar.generation.TransformersEngine", "--engine.max_new_tokens", "26", "--output",
    ]  # fmt: skip
    labels, again = evolve.folder / "labels", evolve.folder / "again"
    assert main([*annotate, str(labels)]) == 0
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)):
        pattern = f"labels-0000{number == signal.SIGTERM:d}.parquet"
        assert driver.stop_when(again, pattern, number, *annotate, str(again)) == status
    driver.finish(*annotate, str(again))
    for shard in labels.glob("labels-*.parquet"):
        assert shard.read_bytes() == (again / shard.name).read_bytes()


def test_a_signal_in_the_validation_after_an_epoch_loses_no_training(
    evolve: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = evolve.settings("whole")
    del settings["rollout"]
    settings["data"]["init_args"] |= {"eval_batch_size": 3}
    settings["data"]["init_args"]["train"]["init_args"] = {"split": "seed", "size": 24}
    command = ["fit", "--config", str(evolve.write(settings, "sft"))]
    assert main(command) == 0
    stopped = [*command, "--trainer.default_root_dir", str(evolve.folder / "stopped")]
    validate, calls = PolicyModule.validation_step, []

    def validation_step(self: PolicyModule, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            calls.append(batch_idx)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
        validate(self, batch, batch_idx)

    monkeypatch.setattr(PolicyModule, "validation_step", validation_step)
    assert main(stopped) == 143
    assert "Traceback" not in capfd.readouterr().err
    assert main(stopped) == 0
    # Two batches of three, and then both validations anew.
    assert calls == [0, 1, *range(3), *range(3)]
    assert differences(evolve.folder / "whole", evolve.folder / "stopped") == []
    assert scalars(evolve.folder / "stopped") == scalars(evolve.folder / "whole")
