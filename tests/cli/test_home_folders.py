"""Where ``~/`` and a variable lead to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import mstar.cli.lightning_cli
from mstar.__main__ import main
from mstar.prompts.prompt_table import cache_root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which is not the working directory."""
    for name, value in (("HOME", tmp_path / "home"), ("SCRATCH", tmp_path / "scratch")):
        value.mkdir()
        monkeypatch.setenv(name, str(value))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_paths_in_flags_and_files_begin_in_the_users_folder(home: Path) -> None:
    (home / "in.jsonl").write_text('{"response": "Answer: 3", "answer": "3"}\n')
    (home / "grade.yaml").write_text(yaml.safe_dump({"input": "~/in.jsonl"}))
    assert main(["grade", "--config=~/grade.yaml", "--output=~/out.jsonl"]) == 0
    assert (home / "out.jsonl").is_file()
    assert os.listdir() == []


def test_a_runs_folder_is_one_whoever_writes_in_it(evolve: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(mstar.cli.lightning_cli.MstarCLI, "fit", lambda cli, **_: found.append(cli))
    settings = evolve.settings()
    settings["trainer"]["default_root_dir"] = "$SCRATCH/v"
    settings["trainer"]["callbacks"] = [
        {"class_path": "mstar.callbacks.ExportCallback", "init_args": {"folder": "~/policy"}}
    ]
    assert main(["fit", "--config", str(evolve.write(settings))]) == 0
    [cli] = found
    root = str(home.parent / "scratch" / "v")
    assert (cli.trainer.default_root_dir, cli.trainer.logger.save_dir) == (root, root)
    [export] = [each for each in cli.trainer.callbacks if type(each).__name__ == "ExportCallback"]
    assert export.folder == str(home / "policy")


def test_the_caches_may_lie_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSTAR_CACHE", "~/caches")
    assert cache_root() == home / "caches"
