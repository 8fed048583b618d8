from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mstar.dashboards.run_data import read_run
from mstar.errors import DataError
from mstar.storage import RunDirectory


def test_the_sample_is_spread_over_iterations_and_categories(run: Path) -> None:
    data = read_run(run, 8)
    assert Counter(prompt.iteration for prompt in data.prompts) == {1: 4, 2: 4}
    assert len({prompt.category for prompt in data.prompts if prompt.iteration == 1}) == 4
    assert (data.num_prompts, data.num_responses) == (20, 62)
    first = data.prompts[0]
    assert first.image_uris == (f"tiny-dice:pool/0/{first.id.rsplit('-', 1)[1]}",)
    assert {scored.response.prompt_id for scored in first.responses} == {first.id}
    assert len(first.responses) >= 3


@pytest.mark.parametrize("count", [0, 1, 3, 7, 20, 1000])
def test_the_sample_has_the_asked_size(run: Path, count: int) -> None:
    prompts = read_run(run, count).prompts
    assert len(prompts) == min(count, 20)
    assert len({prompt.id for prompt in prompts}) == len(prompts)


def test_numbers_are_found_by_their_path(run: Path) -> None:
    first, second = read_run(run, 0).iterations
    assert first.values["dynamics/greedy_accuracy"] == 0.125
    assert first.values["funnel/kept"] == 8
    assert "kept_chain_accuracy" not in first.values
    assert first.sweep is None
    assert second.sweep is not None
    assert second.sweep.chosen == 0.7
    assert [temperature for temperature, _ in second.sweep.scores] == [0.3, 0.7]


def test_odd_values_in_a_report_are_left_out(run: Path) -> None:
    RunDirectory(run).report(1).write_text(
        '{"temperature": NaN, "tokens": "many", "prompts": true, "funnel": [1], "sweep": {"scores": {"x": 3}}}'
    )
    first, _ = read_run(run, 0).iterations
    assert dict(first.values) == {}
    assert first.sweep is None


def test_an_iteration_without_report_is_incomplete(run: Path) -> None:
    RunDirectory(run).report(2).unlink()
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
    assert [path for path, _ in data.configs] == ["evolve/lightning_logs/version_1/config.yaml", "warmup/config.yaml"]


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
