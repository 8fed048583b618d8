"""Stages are run once, what they returned is kept, and a folder belongs to one seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.demo.stages import StageBook
from mstar.errors import ConfigError


def test_a_stage_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def stage() -> dict[str, int]:
        calls.append("stage")
        return {"steps": 7}

    assert StageBook(tmp_path, seed=0).run("evolve", stage) == {"steps": 7}
    again = StageBook(tmp_path, seed=0)
    assert again.run("evolve", stage) == {"steps": 7}
    assert calls == ["stage"]
    assert set(again.seconds) == {"evolve"}


def test_a_stage_that_failed_is_run_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        StageBook(tmp_path, seed=0).run("warmup", fail)
    assert StageBook(tmp_path, seed=0).run("warmup", lambda: {"ok": True}) == {"ok": True}


def test_what_a_stage_that_was_stopped_had_taken_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0, 100.0, 112.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("time.process_time", lambda: 0.0)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StageBook(tmp_path, seed=0).run("evolve", stop)
    assert StageBook(tmp_path, seed=0).seconds == {}
    book = StageBook(tmp_path, seed=0)
    book.run("evolve", lambda: None)
    assert book.seconds == {"evolve": 42.0}


def test_two_processes_write_in_one_book(tmp_path: Path) -> None:
    first, second = StageBook(tmp_path, seed=0), StageBook(tmp_path, seed=0)
    first.run("random", lambda: {"steps": 1})
    second.run("likelihood", lambda: {"steps": 2})
    assert {name: stage["result"]["steps"] for name, stage in first.stages.items()} == {"random": 1, "likelihood": 2}


def test_a_folder_of_another_seed_is_refused(tmp_path: Path) -> None:
    StageBook(tmp_path, seed=0).run("warmup", lambda: None)
    with pytest.raises(ConfigError, match=r"seed 0, not 1.*--output runs/demo-1"):
        StageBook(tmp_path, seed=1)
