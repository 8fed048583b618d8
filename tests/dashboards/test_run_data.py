from __future__ import annotations

from pathlib import Path

import pytest

from mstar.dashboards.run_data import read_run
from mstar.errors import DataError
from mstar.storage import RunDirectory


def test_numbers_are_found_by_their_path(run: Path) -> None:
    first, second = read_run(run, 0).iterations
    assert first.values["dynamics/greedy_accuracy"] == 0.125
    assert first.values["funnel/kept"] == 8
    assert "kept_chain_accuracy" not in first.values
    assert second.values["sweep/chosen"] == 0.7


def test_what_is_no_number_in_a_report_is_left_out(run: Path) -> None:
    RunDirectory(run).report(1).write_text('{"tokens": 3, "collapse": "it fell", "by": {"known": true}}')
    first, _ = read_run(run, 0).iterations
    assert dict(first.values) == {"tokens": 3.0}


def test_an_iteration_whose_training_did_not_end_is_incomplete(run: Path) -> None:
    RunDirectory(run).report(2).write_text('{"seconds": {"generate": 1.0}}')
    first, second = read_run(run, 4).iterations
    assert (first.complete, second.complete) == (True, False)


def test_iterations_of_a_staged_run_and_the_newest_configs_are_found(run: Path, tmp_path: Path) -> None:
    staged = tmp_path / "demo"
    staged.mkdir()
    run.rename(staged / "evolve")
    for folder in ("warmup", "evolve/lightning_logs/version_0", "evolve/lightning_logs/version_1"):
        (staged / folder).mkdir(parents=True)
        (staged / folder / "config.yaml").write_text(f"name: {folder}\n")
    data = read_run(staged, 2)
    assert len(data.iterations) == 2
    paths = [config.path for config in data.configs]
    assert paths == [
        "evolve/lightning_logs/version_1/config.yaml",
        "warmup/config.yaml",
    ]


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not the folder of a run: .* give the folder that a run wrote\.$"):
        read_run(tmp_path, 1)
    with pytest.raises(DataError, match="is not a folder"):
        read_run(tmp_path / "missing", 1)


def test_a_damaged_shard_is_named(run: Path) -> None:
    shard = RunDirectory(run).responses(1, 1)
    shard.write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"responses-00001\.parquet"):
        read_run(run, 4)
