"""export and report, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.__main__ import main
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.lora import LoraSettings
from mstar.models.step_scorer import StepScorer
from mstar.modules import MPRMModule, PolicyModule
from mstar.prompts import TinyDice


@pytest.fixture(scope="module")
def run(evolve_once: Any) -> Path:
    root: Path = evolve_once("--trainer.max_epochs", "1")
    return root


def export(checkpoint: Path, output: Path) -> int:
    return main(["export", "--checkpoint", str(checkpoint), "--output", str(output)])


def test_a_policys_checkpoint_becomes_a_model_folder(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "exported"
    output.mkdir()
    assert export(run / "checkpoints/last.ckpt", output) == 0
    assert export(run / "checkpoints/last.ckpt", output) == 0
    exported, trained = load_model(str(output)), load_model(str(run / "policy"))
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in exported.state_dict().items())
    prompts = list(TinyDice("test", 2))
    renderers = [load_renderer(str(folder)) for folder in (output, run / "policy")]
    inputs = [renderer.prompt_inputs(prompts) for renderer in renderers]
    assert torch.equal(inputs[0].ids_BT, inputs[1].ids_BT)
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_an_export_goes_to_the_hub_with_its_card(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed: list[tuple[str, bool, str]] = []

    def upload(folder: Path, name: str, *, private: bool) -> str:
        pushed.append((name, private, (folder / "README.md").read_text()))
        return f"https://hub/{name}"

    monkeypatch.setattr("mstar.cli.export_command.upload", upload)
    checkpoint, output = str(run / "checkpoints/last.ckpt"), str(tmp_path / "exported")
    command = ["export", "--checkpoint", checkpoint, "--output", output, "--push", "me/dice", "--private"]
    monkeypatch.setattr("mstar.export.hub_upload.get_token", lambda: None)
    assert main(command) == 1
    assert "needs a login" in capsys.readouterr().err
    assert not Path(output).exists()
    monkeypatch.setattr("mstar.export.hub_upload.get_token", lambda: "a token")
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [output, "https://hub/me/dice"]
    ((name, private, card),) = pushed
    assert (name, private) == ("me/dice", True)
    assert "- Epochs (iterations): 1\n" in card
    assert "- train: TinyDice" in card
    assert "mstar export --checkpoint checkpoints/last.ckpt --output exported" in card
    greedy = json.loads((run / "iterations/0001/report.json").read_text())["dynamics"]["greedy_accuracy"]
    assert f"| 1 | {greedy:.3f} |" in card
    assert "README.md" in json.loads((tmp_path / "exported/mstar_export.json").read_text())["files"]


def test_an_export_takes_the_place_of_nothing_else(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It once deleted the folder that it was given, whatever that held, and the file."""
    checkpoint = run / "checkpoints/last.ckpt"
    models = tmp_path / "models"
    (models / "other").mkdir(parents=True)
    (models / "other/notes.txt").write_text("keep")
    before = {path: path.read_bytes() for path in [*models.rglob("*"), *run.rglob("*")] if path.is_file()}
    for output in (models, models / "other", models / "other/notes.txt", run, run / "checkpoints"):
        assert export(checkpoint, output) == 1
        assert f"'{output}' is not" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in [*models.rglob("*"), *run.rglob("*")] if path.is_file()} == before
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for _ in range(2):
        assert export(checkpoint, Path()) == 0
        # Seen from where the command was given: the folder is the same one.
        assert {"model.safetensors", "config.json"} <= {path.name for path in Path().iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "models"]


def test_adapters_whose_base_has_moved(warm_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = shutil.copytree(warm_policy, tmp_path / "base")
    module = PolicyModule(str(base), lora=LoraSettings(rank=2))
    module.configure_model()
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    moved = base.rename(tmp_path / "moved")
    command = ["export", "--checkpoint", str(tmp_path / "last.ckpt"), "--output", str(tmp_path / "out")]
    assert main(command) == 1
    assert f"model_name '{base}' is neither a folder nor" in capsys.readouterr().err
    assert main([*command, "--model_name", str(moved)]) == 0
    assert main([*command[:-1], str(tmp_path / "adapter"), "--model_name", str(moved), "--adapter", "true"]) == 0
    described = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(moved)
    capsys.readouterr()
    assert main([*command, "--model_name", EMBEDDED_MODEL]) == 1
    assert "holds adapters for other weights" in capsys.readouterr().err
    assert main([*command, "--model_name", str(tmp_path / "adapter")]) == 1
    assert "is a folder of adapters alone" in capsys.readouterr().err


def test_an_mprms_checkpoint_becomes_an_mprm_folder(warm_policy: Path, tmp_path: Path) -> None:
    module = MPRMModule(str(warm_policy), head_size=16, step_logprob_features=False)
    module.configure_model()
    torch.nn.init.normal_(module.scorer.head.output.weight)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "mprm.ckpt")
    assert export(tmp_path / "mprm.ckpt", tmp_path / "mprm") == 0
    scorer, _ = StepScorer.load(tmp_path / "mprm")
    assert scorer.head_size == 16
    expected = module.scorer.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in scorer.state_dict().items())


def test_a_foreign_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert export(tmp_path / "foreign.ckpt", tmp_path / "out") == 1
    assert "was not written by mstar" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_folder_of_a_run_is_not_its_checkpoint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (run, run / "policy"):
        assert export(folder, tmp_path / "out") == 1
        assert f"Did you mean '{run / 'checkpoints/last.ckpt'}'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_becomes_a_page(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--run", str(run)]) == 0
    assert capsys.readouterr().out.strip().endswith(str(run / "report.html"))
    page = (run / "report.html").read_text()
    assert TinyDice("pool", 32)[0].question.split()[0] in page
    assert main(["report", "--run", str(run), "--output", str(tmp_path / "page.html"), "--max_prompts", "1"]) == 0
    assert (tmp_path / "page.html").stat().st_size < len(page.encode())
