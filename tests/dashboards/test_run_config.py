from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.dashboards.run_config import image_roots, read_configs


def save(folder: Path, values: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False))


def source(**settings: Any) -> dict[str, Any]:
    return {"class_path": "mstar.prompts.RecordPrompts", "init_args": settings}


def test_pictures_are_looked_for_where_the_prompt_sources_have_them(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    data = {
        "train": source(path="data/pool.jsonl", image_root="pictures"),
        "validation": source(path="data/other.jsonl", image_root=None),
        "test": source(path=str(tmp_path / "folder"), image_root=None),
        "more": [source(root="/mathv360k")],
    }
    save(tmp_path / "run", {"data": {"init_args": data}})
    roots = image_roots(tuple(read_configs(tmp_path / "run")))
    assert roots == ("pictures", "data", str(tmp_path / "folder"), "/mathv360k/data_images", ".")


def test_relative_folders_are_also_those_of_the_place_that_the_run_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"trainer": {"default_root_dir": "runs/a"}, "data": {"train": source(path="pool.jsonl", image_root="p")}}
    save(tmp_path / "work" / "runs" / "a", settings)
    monkeypatch.chdir(tmp_path)
    (config,) = read_configs(Path("work/runs/a"))
    assert image_roots((config,)) == ("p", os.path.join(tmp_path, "work", "p"), ".")


def test_a_config_that_is_none_says_nothing(tmp_path: Path) -> None:
    for number, text in enumerate(("{", "- a", "7", "rollout: x\ndata: [1, {image_root: 3}]", "trainer: 1")):
        save(tmp_path / str(number), text)
    configs = tuple(read_configs(tmp_path))
    assert len(configs) == 5
    assert image_roots(configs) == (".",)
    assert image_roots(()) == (".",)


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
