"""Runs with sharded weights on two processes: they go on, on one process or two, and end in ordinary models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mstar.__main__ import main
from mstar.models.backbone import load_model
from mstar.models.step_scorer import StepScorer
from mstar.prompts import TinyDice
from mstar.storage import ExampleFile, RunDirectory, read_responses, write_step_labels
from mstar.types import StepLabels
from tests.integration.results import plan_of, report_of

OVERLAY = Path(__file__).parents[2] / "configs/overlays/fsdp2.yaml"
SHARDED = ("--config", str(OVERLAY), "--trainer.precision", "32-true")
TRAINER = {
    "accelerator": "cpu",
    "max_epochs": 1,
    "log_every_n_steps": 1,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}
ONE_FILE = ("--trainer.strategy.init_args.save_distributed_checkpoint", "false")


@pytest.fixture(scope="module")
def run(forker: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs a command, in two processes unless another number is given."""
    log = tmp_path_factory.mktemp("log") / "log"

    def run(*arguments: str | Path, number: int = 2) -> None:
        forker.run([*arguments, "--trainer.devices", str(number)], log, number=number)

    return run


def responses(root: Path, iteration: int) -> list[Any]:
    run_directory = RunDirectory(root)
    return [read_responses(shard) for shard in run_directory.response_shards(iteration)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return loaded


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def begun(source: Path, name: str) -> Path:
    """A copy of a run as it was when its first iteration was done."""
    copy = source.with_name(name)
    shutil.copytree(source, copy)
    for path in ("policy", "iterations/0002", "finished.json"):
        shutil.rmtree(copy / path, ignore_errors=True)
    (copy / "finished.json").unlink(missing_ok=True)
    for checkpoint in (copy / "checkpoints").iterdir():
        if checkpoint.name != "iteration-0001.ckpt":
            shutil.rmtree(checkpoint) if checkpoint.is_dir() else checkpoint.unlink()
    return copy


@pytest.fixture(scope="module")
def settings(evolve_once: Any, warm_mprm: Path) -> Any:
    """The configuration of a run in the folder of a name.

    The vision tower is frozen, the MPRM selects, and what is kept of hard prompts counts twice.
    """

    def write(name: str, **rollout: Any) -> Path:
        balance = {"hard": 0.5, "repeat_hard": 2}
        selection = {
            "selection": "top_k", "top_k": 1, "reward_model": str(warm_mprm), "balance": balance, **rollout
        }  # fmt: skip
        made = evolve_once.settings(name, **selection)
        made["model"]["init_args"] |= {"freeze": ["vision"], "gradient_checkpointing": True}
        made["trainer"] |= {
            "gradient_clip_val": 1.0,
            "precision": "32-true",
            "callbacks": [{"class_path": "mstar.callbacks.IterationCheckpoint", "init_args": {"keep_all": True}}],
        }
        path: Path = evolve_once.write(made, name)
        return path

    return write


@pytest.fixture(scope="module")
def plain(evolve_once: Any, settings: Any) -> Path:
    """Two iterations on one process, not sharded."""
    assert main(["fit", "--config", str(settings("plain"))]) == 0
    root: Path = evolve_once.folder / "plain"
    return root


@pytest.fixture(scope="module")
def sharded(run: Any, evolve_once: Any, settings: Any) -> Path:
    """The same on two processes."""
    run("fit", "--config", settings("sharded"), *SHARDED)
    root: Path = evolve_once.folder / "sharded"
    return root


def test_two_processes_write_what_one_writes(plain: Path, sharded: Path) -> None:
    assert responses(sharded, 1) == responses(plain, 1)
    assert plan_of(sharded, 1)["policy"] == plan_of(plain, 1)["policy"]
    assert plan_of(sharded, 2)["policy"] != plan_of(sharded, 1)["policy"]
    examples = ExampleFile(RunDirectory(sharded).examples(1))
    assert 0 < len(examples) < 64
    assert {example.weight for example in examples} == {1.0, 2.0}
    reports = [report_of(root, 0)["dynamics"] for root in (plain, sharded)]
    assert reports[0] == reports[1]


def test_a_distributed_checkpoint_is_exported(sharded: Path, tmp_path: Path) -> None:
    checkpoint = sharded / "checkpoints/iteration-0002.ckpt"
    assert checkpoint.is_dir()
    assert main(["export", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "out")]) == 0
    assert_same_weights(tmp_path / "out", sharded / "policy")
    assert load_model(str(tmp_path / "out")).config.architectures == ["Idefics3ForConditionalGeneration"]


def test_a_distributed_checkpoint_with_a_part_missing_is_refused(
    sharded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lost, complaint in (("__1_0.distcp", "lacks a part"), ("meta.pt", "neither a file nor the folder")):
        copy = tmp_path / f"{lost}.ckpt"
        shutil.copytree(sharded / "checkpoints/last.ckpt", copy)
        (copy / lost).unlink()
        assert main(["export", "--checkpoint", str(copy), "--output", str(tmp_path / "out")]) == 1
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_resumed_run_ends_like_one_never_stopped(run: Any, sharded: Path, settings: Any) -> None:
    root = begun(sharded, "resumed")
    start = root / "checkpoints/iteration-0001.ckpt"
    run("fit", "--config", settings("resumed", dynamics=False), *SHARDED, "--ckpt_path", start)
    assert responses(root, 2) == responses(sharded, 2)
    assert_same_weights(root / "policy", sharded / "policy")


def test_one_process_goes_on_from_two(run: Any, sharded: Path, settings: Any) -> None:
    root = begun(sharded, "alone")
    start = root / "checkpoints/iteration-0001.ckpt"
    as_many_rows = ("--trainer.accumulate_grad_batches", "2")
    run("fit", "--config", settings("alone", dynamics=False), *SHARDED, *as_many_rows, "--ckpt_path", start, number=1)
    assert plan_of(root, 2)["policy"] == plan_of(sharded, 2)["policy"]
    assert responses(root, 2) == responses(sharded, 2)
    assert (root / "policy/model.safetensors").is_file()


def test_the_last_dynamics_are_measured_by_a_run_that_has_nothing_left_to_train(
    run: Any, sharded: Path, settings: Any
) -> None:
    """A sharded run restores its checkpoint late, after the hook that ends an iteration elsewhere."""
    root = sharded.with_name("measured")
    shutil.copytree(sharded, root)
    (root / "finished.json").unlink()
    report = RunDirectory(root).report(2)
    expected = json.loads(report.read_text())
    del expected["seconds"]["dynamics"]
    report.write_text(json.dumps({key: expected[key] for key in expected.keys() - {"dynamics", "mprm"}}))
    run("fit", "--config", settings("measured"), *SHARDED)
    measured = json.loads(report.read_text())
    assert measured["seconds"].pop("dynamics") > 0
    assert measured == expected


def test_a_run_without_sharding_says_what_a_folder_needs(
    sharded: Path, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = begun(sharded, "refused")
    start = root / "checkpoints/iteration-0001.ckpt"
    assert main(["fit", "--config", str(settings("refused")), "--ckpt_path", str(start)]) == 1
    assert "is a folder, written by FSDP: go on with configs/overlays/fsdp2.yaml" in capsys.readouterr().err


def test_two_processes_go_on_from_one_that_was_not_sharded(run: Any, plain: Path, settings: Any) -> None:
    root = begun(plain, "joined")
    start = root / "checkpoints/iteration-0001.ckpt"
    run("fit", "--config", settings("joined", dynamics=False), *SHARDED, "--ckpt_path", start)
    assert plan_of(root, 2)["policy"] == plan_of(plain, 2)["policy"]
    assert responses(root, 2) == responses(plain, 2)


def test_rest_em_goes_back_and_one_file_is_loaded_without_sharding(run: Any, settings: Any, tmp_path: Path) -> None:
    prompts = {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "refresh", "size": 8}}
    annotation = {"num_samples": 4, "num_continuations": 2}
    refresh = {"iterations": [2], "prompts": prompts, "annotation": annotation, "lr": 1e-4}
    config = settings("rest_em", method="rest_em", refresh_reward_model=refresh)
    root = config.with_suffix("")
    run("fit", "--config", config, *SHARDED, *ONE_FILE)
    assert plan_of(root, 2)["policy"] != plan_of(root, 1)["policy"]
    assert plan_of(root, 2)["scores"]["weights"] != plan_of(root, 1)["scores"]["weights"]
    last = root / "checkpoints/last.ckpt"
    assert last.is_file()
    assert main(["export", "--checkpoint", str(last), "--output", str(tmp_path / "out")]) == 0
    assert_same_weights(tmp_path / "out", root / "policy")
    assert_begun_anew(torch.load(last, weights_only=True))
    assert main(["fit", "--config", str(config), "--trainer.max_epochs", "3", "--ckpt_path", str(last)]) == 0
    assert_begun_anew(torch.load(last, weights_only=True))
    assert (root / "iterations/0003/report.json").is_file()


def assert_begun_anew(checkpoint: dict[str, Any]) -> None:
    """ReST-EM resets the optimizer: it has counted the steps of the last iteration alone."""
    taken = [int(entry["step"]) for entry in checkpoint["optimizer_states"][0]["state"].values()]
    assert 0 < max(taken) < checkpoint["global_step"]


def assert_exported(root: Path, name: str, output: Path) -> None:
    """The run's model is that of its checkpoint, in the float32 that mixed precision keeps it in."""
    assert main(["export", "--checkpoint", str(root / "checkpoints/last.ckpt"), "--output", str(output)]) == 0
    assert_same_weights(output, root / name)
    assert any(not torch.equal(value, value.bfloat16().float()) for value in weights(output).values())


def test_an_mprm_is_trained_in_mixed_precision(run: Any, warm_policy: Path, tmp_path: Path) -> None:
    rows = []
    for prompt in TinyDice("annotation", 10):
        lines = prompt.reference_responses[0].splitlines(keepends=True)
        tried = (4,) * len(lines)
        rows.append(StepLabels(prompt.id, "".join(lines), tuple(lines), tried, tried, True, -2.0, True))
        wrong = (lines[0], "0\n", *lines[2:])
        rows.append(StepLabels(prompt.id, "".join(wrong), wrong, (4, *tried[1:-1], 0), tried, False, -9.0, False))
    write_step_labels(tmp_path / "labels/labels-00000.parquet", rows)
    prompts = {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "annotation", "size": 10}}
    data = {"labels": str(tmp_path / "labels"), "prompts": prompts, "batch_size": 4, "validation_share": 0.4}
    config = {
        "model": {"class_path": "mstar.modules.MPRMModule", "init_args": {"model_name": str(warm_policy), "lr": 1e-3}},
        "data": {"class_path": "mstar.datamodules.StepLabelDataModule", "init_args": data},
        "trainer": {**TRAINER, "default_root_dir": str(tmp_path / "run")},
    }
    (tmp_path / "mprm.yaml").write_text(yaml.safe_dump(config))
    run("fit", "--config", tmp_path / "mprm.yaml", "--config", OVERLAY)
    assert_exported(tmp_path / "run", "mprm", tmp_path / "out")
    scorer, _ = StepScorer.load(tmp_path / "out")
    assert scorer.head.output.weight.any()


def test_adapters_are_trained_in_mixed_precision(run: Any, warm_policy: Path, tmp_path: Path) -> None:
    def prompts(split: str, size: int) -> dict[str, Any]:
        return {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": split, "size": size}}

    model = {"model_name": str(warm_policy), "lr": 1e-3, "lora": {"rank": 2}}
    data = {"train": prompts("seed", 16), "validation": prompts("validation", 3), "batch_size": 4}
    config = {
        "model": {"class_path": "mstar.modules.PolicyModule", "init_args": model},
        "data": {"class_path": "mstar.datamodules.PolicyDataModule", "init_args": data},
        "trainer": {**TRAINER, "default_root_dir": str(tmp_path / "run")},
    }
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(config))
    run("fit", "--config", tmp_path / "sft.yaml", "--config", OVERLAY)
    assert_exported(tmp_path / "run", "policy", tmp_path / "out")
    before, after = weights(warm_policy), weights(tmp_path / "out")
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert before.keys() == after.keys()
    assert {name.split(".")[1] for name in changed} == {"text_model"}
