from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.dashboards.run_config import read_configs, started_in


def save(folder: Path, values: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False))


def test_a_config_that_is_none_says_nothing(tmp_path: Path) -> None:
    for number, text in enumerate(("{", "- a", "7", "rollout: x\ndata: [1, {image_root: 3}]", "trainer: 1")):
        save(tmp_path / str(number), text)
    configs = tuple(read_configs(tmp_path))
    assert len(configs) == 5
    assert [dict(config.values) for config in configs[:3]] == [{}] * 3
    assert [list(started_in(config.folder, config.values)) for config in configs] == [[]] * 5


def test_the_place_that_a_run_was_started_in_is_what_its_own_folder_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "work" / "runs" / "a", {"trainer": {"default_root_dir": "runs/a"}})
    monkeypatch.chdir(tmp_path)
    (config,) = read_configs(Path("work/runs/a"))
    assert list(started_in(config.folder, config.values)) == [tmp_path / "work"]


def test_a_run_behind_a_link_was_started_beside_it(tmp_path: Path) -> None:
    """Runs lie on a cluster's large disk, most often."""
    save(tmp_path / "scratch/me/runs/a", {"trainer": {"default_root_dir": "runs/a"}})
    (tmp_path / "work").mkdir()
    (tmp_path / "work/runs").symlink_to(tmp_path / "scratch/me/runs")
    (config,) = read_configs(tmp_path / "work/runs/a")
    assert list(started_in(config.folder, config.values)) == [tmp_path / "work", tmp_path / "scratch/me"]


def test_keys_and_passwords_are_not_shown(tmp_path: Path) -> None:
    logger = {"api_key": "KEY", "token": "KEY", "password": None, "tracking_uri": "https://me:KEY@host/mlflow"}
    save(tmp_path, {"trainer": {"logger": [{"init_args": logger}]}, "max_prompt_tokens": 512, "key_variable": "MY_KEY"})
    [config] = read_configs(tmp_path)
    assert "KEY\n" in config.text
    assert config.shown.replace("MY_KEY", "").count("KEY") == 0
    for line in (
        "api_key: ***",
        "password: null",
        "https://***@host",
        "max_prompt_tokens: 512",
        "key_variable: MY_KEY",
    ):
        assert line in config.shown
