"""Callbacks that watch the dynamics: early stopping, the best checkpoint, the best export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.__main__ import main
from mstar.storage import RunDirectory

LIGHTNING = "lightning.pytorch.callbacks"


def callbacks(**stopping: Any) -> list[dict[str, Any]]:
    watch = {"monitor": "dynamics/greedy_accuracy", "mode": "max"}
    every = {"save_top_k": -1, "filename": "{epoch}", "enable_version_counter": False}
    return [
        {"class_path": f"{LIGHTNING}.EarlyStopping", "init_args": watch | stopping},
        {"class_path": f"{LIGHTNING}.ModelCheckpoint", "init_args": watch | every},
        {"class_path": "mstar.callbacks.ExportCallback", "init_args": {"export_best": True}},
    ]


def fit(evolve: Any, name: str, *flags: str, **stopping: Any) -> Path:
    settings = evolve.settings(name)
    settings["trainer"] |= {"max_epochs": 3, "callbacks": callbacks(**stopping)}
    assert main(["fit", "--config", str(evolve.write(settings, name)), *flags]) == 0
    root: Path = evolve.folder / name
    return root


def states(root: Path) -> dict[str, dict[str, Any]]:
    found = torch.load(root / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    return {name.partition("{")[0]: state for name, state in found.items()}


def accuracies(root: Path, count: int) -> list[float]:
    run = RunDirectory(root)
    return [json.loads(run.report(i).read_text())["dynamics"]["greedy_accuracy"] for i in range(1, count + 1)]


def test_those_who_watch_see_every_iteration_once_however_often_a_run_is_resumed(
    evolve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint of an iteration is written before its dynamics are measured, and so before they are seen.

    It is written beside those of a ModelCheckpoint without being asked for.
    """
    whole = fit(evolve, "whole", patience=5)
    found = accuracies(whole, 3)
    best = max(found)
    assert len(set(found)) > 1, "an iteration that is better than another one is needed here"
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == (
        f"the best epoch was {found.index(best) + 1}, with dynamics/greedy_accuracy {best:.4g}: {whole / 'policy-best'}"
    )
    for epochs in ("1", "2", "3"):
        again = fit(evolve, "again", "--trainer.max_epochs", epochs, patience=5)
    # As after a kill in the last dynamics.
    report = RunDirectory(again).report(3)
    measured = json.loads(report.read_text())
    report.write_text(json.dumps({key: measured[key] for key in measured.keys() - {"dynamics", "mprm"}}))
    (again / "finished.json").unlink()
    next(again.rglob("epoch=2.ckpt")).unlink()
    fit(evolve, "again", patience=5)
    assert (again / "finished.json").read_text() == (whole / "finished.json").read_text()
    one, other = states(whole), states(again)
    for name in ("EarlyStopping", "ExportCallback"):
        assert one[name] == other[name]
    kept = [sorted(path.name for path in root.rglob("epoch=*.ckpt")) for root in (whole, again)]
    assert kept[0] == kept[1] == [f"epoch={i}.ckpt" for i in range(3)]
    for folder in ("policy", "policy-best"):
        weights = [(root / folder / "model.safetensors").read_bytes() for root in (whole, again)]
        assert weights[0] == weights[1]


def test_a_run_ends_when_the_dynamics_get_no_better(evolve: Any) -> None:
    root = fit(evolve, "stopped", patience=1, min_delta=1.0)
    assert RunDirectory(root).iterations == [0, 1, 2]
    assert (root / "policy/model.safetensors").is_file()


@pytest.mark.parametrize(
    ("watched", "flags", "sentence"),
    [
        ("val/accuracy", (), "with rollouts the dynamics take the place of a validation"),
        ("dynamics/greedy_accuracy", ("--data.validation", "null"), "no dynamics are measured: set data.validation"),
    ],
)
def test_what_is_never_measured_cannot_be_watched(
    evolve: Any, capsys: pytest.CaptureFixture[str], watched: str, flags: tuple[str, ...], sentence: str
) -> None:
    settings = evolve.settings()
    stopping = {"class_path": f"{LIGHTNING}.EarlyStopping", "init_args": {"monitor": watched}}
    settings["trainer"]["callbacks"] = [stopping]
    assert main(["fit", "--config", str(evolve.write(settings)), *flags]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"mstar fit: error: EarlyStopping in trainer.callbacks watches '{watched}', but ")
    assert sentence in last
    assert not (evolve.folder / "run").exists()
