"""A run's prompt sources, opened again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mstar.dashboards.run_config import SavedConfig
from mstar.dashboards.run_sources import open_sources
from mstar.errors import ConfigError
from mstar.prompts import RecordPrompts


def write_rows(tmp_path: Path) -> Path:
    """Four rows; the picture of the second is missing."""
    Image.new("RGB", (8, 8)).save(tmp_path / "there.png")
    rows = [
        {
            "id": str(number),
            "question": f"{number}?",
            "answer": "1",
            "image": "gone.png" if number == 1 else "there.png",
        }
        for number in range(4)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_first_prompts_of_a_source_are_found_whatever_rows_were_put_aside(tmp_path: Path) -> None:
    path = write_rows(tmp_path)
    source = RecordPrompts(str(path), size=2, max_bad_share=1.0, quarantine=str(tmp_path / "bad.jsonl"))
    assert [prompt.id for prompt in source] == ["0", "2"]
    settings: dict[str, Any] = {
        "class_path": "mstar.prompts.RecordPrompts",
        "init_args": {"path": str(path), "size": 2, "max_bad_share": 1.0, "check_images": "exists"},
    }
    [opened] = open_sources(settings, SavedConfig("config.yaml", "", tmp_path))
    part = {
        "split": None,
        "size": 2,
        "hide_answers": None,
        "start": 0,
        "stop": None,
        "share": None,
        "ids": None,
        "seed": 0,
    }
    whole = settings | {"init_args": settings["init_args"] | {"size": None}}
    [train] = open_sources({"dataset": whole, "train": part}, SavedConfig("config.yaml", "", tmp_path), ["train"])
    for prompt in source:
        assert opened[opened.index_of(prompt.id)] == train[train.index_of(prompt.id)] == prompt


@pytest.mark.parametrize("path", ["rows.jsonl", "row*.jsonl"])
def test_the_folder_of_a_run_may_have_brackets_in_its_name(path: str, tmp_path: Path) -> None:
    place = tmp_path / "runs [1]"
    (place / "out").mkdir(parents=True)
    write_rows(place)
    settings = {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": path, "max_bad_share": 1.0}}
    [opened] = open_sources(settings, SavedConfig("config.yaml", "trainer: {default_root_dir: out}", place / "out"))
    assert [prompt.id for prompt in opened] == ["0", "2", "3"]


def test_a_range_of_a_source_counts_the_rows_that_the_run_counted(tmp_path: Path) -> None:
    source = {
        "class_path": "mstar.prompts.RecordPrompts",
        "init_args": {"path": str(write_rows(tmp_path)), "size": None, "max_bad_share": 1.0, "check_images": "exists"},
    }
    config = SavedConfig("config.yaml", "", tmp_path)
    part = {"class_path": "mstar.prompts.PromptPart", "init_args": {"source": source, "start": 1, "stop": 2}}
    named = {"dataset": source, "train": {"size": 2, "start": 1}}
    opened = [*open_sources(part, config), *open_sources(named, config, ["train"])]
    assert [[prompt.id for prompt in found] for found in opened] == [["2"], ["2"]]


def test_lists_of_splits_are_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_images").mkdir()
    turns = [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "The answer is 2"}]
    rows = [{"image": f"VQA2.0/{number}.png", "conversations": turns} for number in range(4)]
    (tmp_path / "train_samples_all_tuning.json").write_text(json.dumps(rows), encoding="utf-8")
    own = {"root": str(tmp_path), "splits": "lists", "check_images": "exists"}
    settings = {"class_path": "mstar.prompts.MathV360K", "init_args": own}
    [opened] = open_sources(settings, SavedConfig("config.yaml", "", tmp_path))
    assert len(opened) == 2
    assert not (tmp_path / "lists").exists()


def test_the_size_of_a_part_of_generated_prompts_counts(tmp_path: Path) -> None:
    dice = {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "pool", "size": 2}}
    opened = open_sources({"dataset": dice, "train": {"size": 5}}, SavedConfig("config.yaml", "", tmp_path), ["train"])
    assert [len(part) for part in opened] == [5]


@pytest.mark.parametrize("form", ["function", "imported", "text", "json", "pixels", "whole", "part"])
def test_a_configuration_from_elsewhere_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Neither a class or function of others, nor one that a module of ours has imported, nor a module by its name."""
    (tmp_path / "evil_prompts.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()")
    monkeypatch.syspath_prepend(str(tmp_path))
    mixed, folder = "mstar.prompts.MixedPrompts", {"name": str(tmp_path / "ran")}
    settings: dict[str, Any] = {
        "function": {
            "dataset": {"class_path": "mstar.prompts.field_values.os.makedirs", "init_args": folder},
            "train": {},
        },
        "imported": {"dataset": {"class_path": "mstar.prompts.images.find_fault", "init_args": {}}, "train": {}},
        "text": {"class_path": mixed, "init_args": {"sources": ["evil_prompts.Evil"]}},
        "json": {"class_path": mixed, "init_args": {"sources": '[{"class_path": "evil_prompts.Evil"}]'}},
        "pixels": {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": "a", "pixels": "evil_prompts.E"}},
        "whole": {"dataset": "evil_prompts.Evil", "train": {}},
        "part": {"dataset": {"class_path": "mstar.prompts.TinyDice"}, "train": "evil_prompts.Evil"},
    }[form]
    with pytest.raises(ConfigError, match="not one of mstar's own"):
        open_sources(settings, SavedConfig("config.yaml", "", tmp_path))
    assert not (tmp_path / "ran").exists()


def test_the_names_in_a_source_s_own_settings_are_no_classes(tmp_path: Path) -> None:
    folder = tmp_path / "charts"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    rows = {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": [str(folder / "rows.jsonl")]}}
    mixed = {"class_path": "mstar.prompts.MixedPrompts", "init_args": {"sources": [rows, rows], "weights": [1, 1]}}
    part = {"class_path": "mstar.prompts.PromptPart", "init_args": {"source": rows, "share": [0.0, 1.0]}}
    for settings in (rows, part):
        [opened] = open_sources(settings, SavedConfig("config.yaml", "", tmp_path))
        assert len(opened) == 1
    # Nothing is strange in them: what is wrong is that both have the same prompts, or that there is no such folder.
    named = {"class_path": "mstar.prompts.MathV360K", "init_args": {"root": str(folder), "sources": ["GEOS", "a.b"]}}
    for settings in (mixed, named):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever else is wrong with them
            open_sources(settings, SavedConfig("config.yaml", "", tmp_path))
        assert "not one of mstar's own" not in str(caught.value)
