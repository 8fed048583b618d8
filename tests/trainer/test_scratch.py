"""A fast_dev_run of several processes is one, and leaves nothing behind."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import Any

import pytest

from mstar.trainer.scratch import make_scratch_folder


@pytest.mark.timeout(300)
def test_processes_that_a_launcher_started_try_one_run(evolve: Any, forker: Any) -> None:
    settings = evolve.settings(shard_size=4)
    settings["trainer"] |= {
        "fast_dev_run": True, "devices": 2, "strategy": "ddp", "default_root_dir": str(evolve.folder / "new/run"),
        "callbacks": [],
    }  # fmt: skip
    config, log = evolve.write(settings), evolve.folder / "log"
    log.touch()
    before = sorted(evolve.folder.rglob("*"))
    forker.run(["fit", "--config", config], log, number=2)
    assert sorted(evolve.folder.rglob("*")) == before


@pytest.mark.parametrize(("number", "place"), [("WORLD_SIZE", "RANK"), ("SLURM_NTASKS", "SLURM_PROCID")])
def test_the_first_process_alone_removes_what_one_that_was_killed_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, place: str
) -> None:
    monkeypatch.setattr(atexit, "register", lambda *arguments: None)
    monkeypatch.setenv("MSTAR_SCRATCH_FOLDER", "")
    monkeypatch.setenv(number, "2")
    left = tmp_path / "fast-dev-run/left"
    left.mkdir(parents=True)
    for rank, there in (("1", True), ("0", False)):
        monkeypatch.setenv(place, rank)
        assert make_scratch_folder(tmp_path) == str(left.parent)
        assert left.exists() is there
