"""A folder of the exported model's name is always a whole model."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from mstar.__main__ import main
from mstar.callbacks import ExportCallback, IterationCheckpoint, export
from mstar.callbacks.export import export_atomically
from mstar.cli.export_command import export_checkpoint
from mstar.datamodules import PolicyDataModule
from mstar.export.folder import MANIFEST
from mstar.models.backbone import load_model
from mstar.modules import MPRMModule, PolicyModule
from mstar.prompts import TinyDice


class Exported(PolicyModule):
    """Writes one file; fails after it if told so."""

    def __init__(self, text: str, fails: bool = False) -> None:
        super().__init__("mstar/tiny-idefics3")
        self.text = text
        self.fails = fails

    def export(self, folder: Path, dtype: torch.dtype | None = None, adapter: bool = False) -> None:
        folder.mkdir()
        (folder / "model.txt").write_text(self.text)
        if self.fails:
            raise OSError("no space left")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_all_that_is_exported_can_be_read_by_whom_the_umask_says(
    warm_policy: Path, tmp_path: Path, umask: int, mode: int
) -> None:
    """Safetensors writes files that their owner alone can read."""
    policy, scorer = PolicyModule(str(warm_policy)), MPRMModule(str(warm_policy))
    before = os.umask(umask)
    try:
        for module, name in ((policy, "policy"), (scorer, "mprm")):
            module.configure_model()
            export_atomically(module, tmp_path / name)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*/*")}
    assert {"model.safetensors", "step_head.safetensors", "config.json", MANIFEST} <= modes.keys()
    assert modes == dict.fromkeys(modes, mode)


class ExportedMPRM(MPRMModule):
    """Writes one file."""

    text = ""

    def export(self, folder: Path, dtype: torch.dtype | None = None, adapter: bool = False) -> None:
        folder.mkdir()
        (folder / "model.txt").write_text(self.text)


def at_epoch(epoch: int, folder: Path, metrics: dict[str, torch.Tensor] | None = None) -> Any:
    """What the callback knows of a trainer at the end of an epoch."""
    current = SimpleNamespace(processed=epoch, started=epoch)
    progress = SimpleNamespace(epoch_progress=SimpleNamespace(current=current))
    return SimpleNamespace(callback_metrics=metrics or {}, fit_loop=progress, default_root_dir=str(folder))


@pytest.mark.parametrize(
    ("module", "by", "mode", "tag", "values", "best"),
    [
        (Exported(""), True, "max", "dynamics/greedy_accuracy", (0.2, 0.5, math.nan, 0.5, 0.4), 2),
        (Exported(""), "train/loss", "min", "train/loss", (math.nan, 0.5, 0.4, 0.4, 0.6), 3),
        (ExportedMPRM("mstar/tiny-idefics3"), True, "max", "mprm/auc_within", (0.6, 0.5, 0.7, 0.7, 0.1), 3),
        (ExportedMPRM("mstar/tiny-idefics3"), "mprm/loss", "min", "mprm/loss", (0.6, 0.5, 0.7, 0.7, 0.9), 2),
    ],
)
def test_the_best_epoch_is_kept(
    tmp_path: Path, module: Any, by: str | bool, mode: Any, tag: str, values: tuple[float, ...], best: int
) -> None:
    callback = ExportCallback(export_best=by, mode=mode)
    for epoch, value in enumerate(values, 1):
        trainer = at_epoch(epoch, tmp_path, {tag: torch.tensor(value)})
        module.text = str(epoch)
        state, callback = callback.state_dict(), ExportCallback(export_best=by, mode=mode)
        callback.load_state_dict(state)
        callback.on_train_epoch_end(trainer, module)
    name = "policy" if isinstance(module, PolicyModule) else "mprm"
    assert (tmp_path / f"{name}-best" / "model.txt").read_text() == str(best)
    assert callback.state_dict()["best"]["epoch"] == best
    assert f"Epochs (iterations): {best}\n" in (tmp_path / f"{name}-best" / "README.md").read_text()


def test_a_damaged_report_costs_the_card_and_not_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.yaml").write_text("rollout: {method: continuous}\n")
    report = tmp_path / "iterations/0001/report.json"
    report.parent.mkdir(parents=True)
    for text, has_card in (("{}", True), ("{", False)):
        report.write_text(text)
        ExportCallback().on_fit_end(at_epoch(1, tmp_path), Exported(text))
        assert (tmp_path / "policy/model.txt").read_text() == text
        assert (tmp_path / "policy/README.md").is_file() is has_card
    assert "policy' gets no card (README.md): " in caplog.text


def test_a_folder_that_is_no_export_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, run = tmp_path / "models", tmp_path / "run"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    flags = {
        "model": "mstar.modules.PolicyModule", "model.model_name": "mstar/tiny-idefics3",
        "data": "mstar.datamodules.PolicyDataModule", "data.train": "mstar.prompts.TinyDice",
        "data.train.split": "seed", "data.train.size": "4", "trainer.accelerator": "cpu",
        "trainer.max_epochs": "1", "trainer.default_root_dir": str(run),
        "trainer.callbacks+": "mstar.callbacks.ExportCallback", "trainer.callbacks.folder": str(mine),
    }  # fmt: skip
    assert main(["fit", *(part for name, value in flags.items() for part in (f"--{name}", value))]) == 1
    assert "models' is not an export (it holds notes.txt)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]


def test_a_failed_export_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    export_atomically(Exported("first"), folder)
    with pytest.raises(OSError, match="no space"):
        export_atomically(Exported("second", fails=True), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    assert (folder / "model.txt").read_text() == "first"
    export_atomically(Exported("third"), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    assert (folder / "model.txt").read_text() == "third"


def test_an_export_has_a_card_and_the_type_that_is_chosen_or_that_of_training(tmp_path: Path) -> None:
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ExportCallback(dtype="bfloat16"), IterationCheckpoint()], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(PolicyModule("mstar/tiny-idefics3", lr=1e-3), PolicyDataModule(TinyDice("seed", 4), batch_size=4))
    checkpoint = str(tmp_path / "checkpoints" / "last.ckpt")
    export_checkpoint(checkpoint, str(tmp_path / "whole"))
    export_checkpoint(checkpoint, str(tmp_path / "half"), dtype="float16")
    # The fit's own card says what the checkpoint's says.
    facts = [
        [
            line
            for line in (tmp_path / name / "README.md").read_text().splitlines()
            if line.startswith(("- Base", "- Epochs"))
        ]
        for name in ("policy", "whole")
    ]
    assert facts[0] == facts[1] == ["- Base model: `mstar/tiny-idefics3`", "- Epochs (iterations): 1"]
    whole, bfloat16, half = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "policy", "half")
    )  # fmt: skip
    for name, value in whole.items():
        assert value.dtype == torch.float32
        assert torch.equal(bfloat16[name], value.bfloat16())
        assert torch.equal(half[name], value.half())
    assert len(whole) == len(bfloat16) == len(half)
    loaded = load_model(str(tmp_path / "policy"), dtype="bfloat16")
    assert loaded.config.dtype == torch.bfloat16
    assert torch.equal(loaded.get_input_embeddings().weight, loaded.get_output_embeddings().weight)


def test_the_main_process_decides_which_epoch_is_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone has some numbers; the others must not leave the export to it."""
    callback = ExportCallback(export_best="judge/agreement")
    exported: list[Path] = []
    monkeypatch.setattr(callback, "_export", lambda trainer, module, folder, best_by: exported.append(folder))
    progress = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=1)))
    trainer: Any = SimpleNamespace(callback_metrics={}, default_root_dir="run", fit_loop=progress)
    for value in (math.nan, 0.5, 0.5, 0.25, 0.75):
        monkeypatch.setattr(export, "from_main", lambda own, value=value: value)
        callback._keep_best(trainer, Exported("unused"))
    assert exported == [Path("run/policy-best")] * 2
