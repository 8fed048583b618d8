"""A run's prompt sources, opened again."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from mstar.dashboards.run_config import SavedConfig
from mstar.dashboards.run_sources import open_settings
from mstar.prompts import PromptSource, RecordPrompts


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
    settings = {
        "class_path": "mstar.prompts.RecordPrompts",
        "init_args": {"path": str(path), "size": 2, "max_bad_share": 1.0, "check_images": "exists"},
    }
    opened = open_settings(settings, SavedConfig("config.yaml", "", tmp_path))
    assert isinstance(opened, PromptSource)
    for prompt in source:
        assert opened[opened.index_of(prompt.id)] == prompt
