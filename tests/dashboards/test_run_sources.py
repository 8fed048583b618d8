"""A run's prompt sources, opened again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from mstar.dashboards.run_config import SavedConfig
from mstar.dashboards.run_sources import open_parts, open_settings
from mstar.prompts import DataSources, PromptSource, RecordPrompts


def test_the_first_prompts_of_a_source_are_found_whatever_rows_were_put_aside(tmp_path: Path) -> None:
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
    source = RecordPrompts(str(path), size=2, max_bad_share=1.0, quarantine=str(tmp_path / "bad.jsonl"))
    assert [prompt.id for prompt in source] == ["0", "2"]
    settings: dict[str, Any] = {
        "class_path": "mstar.prompts.RecordPrompts",
        "init_args": {"path": str(path), "size": 2, "max_bad_share": 1.0, "check_images": "exists"},
    }
    opened = open_settings(settings, SavedConfig("config.yaml", "", tmp_path))
    assert isinstance(opened, PromptSource)
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
    sources = open_settings({"dataset": whole, "train": part}, SavedConfig("config.yaml", "", tmp_path))
    assert isinstance(sources, DataSources)
    [train] = open_parts(sources, ("train",))
    for prompt in source:
        assert opened[opened.index_of(prompt.id)] == train[train.index_of(prompt.id)] == prompt


def test_the_size_of_a_part_of_generated_prompts_counts(tmp_path: Path) -> None:
    dice = {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "pool", "size": 2}}
    sources = open_settings({"dataset": dice, "train": {"size": 5}}, SavedConfig("config.yaml", "", tmp_path))
    assert isinstance(sources, DataSources)
    assert [len(part) for part in open_parts(sources, ("train",))] == [5]
