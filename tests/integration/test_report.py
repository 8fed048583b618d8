"""The report of real runs by the command line: what it shows follows from what the run's folder holds."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mstar.__main__ import main
from mstar.prompts import TinyDice


def write_stored(folder: Path, split: Any, size: int) -> dict[str, Any]:
    """Some dice as a Parquet file that holds the pictures too, as Hugging Face data sets do."""
    folder.mkdir()
    rows = []
    for prompt in TinyDice(split, size):
        buffer = io.BytesIO()
        prompt.images[0].load().save(buffer, "PNG")
        row = {"id": prompt.id, "question": prompt.question, "answer": prompt.answer}
        rows.append(row | {"image": {"bytes": buffer.getvalue(), "path": None}})
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return {"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": f"{folder.name}/*.parquet"}}


def write_rows(folder: Path, split: Any, size: int) -> dict[str, Any]:
    """Some dice as a file of rows with pictures in files, as a user's data is."""
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for prompt in TinyDice(split, size):
        prompt.images[0].load().save(folder / "pictures" / f"{prompt.id}.png")
        rows.append(
            {"id": prompt.id, "question": prompt.question, "image": f"{prompt.id}.png", "answer": prompt.answer}
        )
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    settings = {"path": f"{folder.name}/rows.jsonl", "image_root": f"{folder.name}/pictures"}
    return {"class_path": "mstar.prompts.RecordPrompts", "init_args": settings}


def report(run: Path) -> tuple[str, list[Any]]:
    """The page, and what its script is given."""
    assert main(["report", "--run", str(run), "--max_prompts", "100"]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    return page, [json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)]


def test_a_self_evolving_run(evolve: Any, warm_mprm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    adaptive = {"class_path": "mstar.temperature.AdaptiveTemperature"}
    settings = evolve.settings(temperature=adaptive, reward_model=str(warm_mprm), interval=1.0)
    settings["data"]["init_args"]["train"] = write_rows(tmp_path / "data", "pool", 12)
    settings["trainer"]["default_root_dir"] = "run"
    assert main(["fit", "--config", str(evolve.write(settings))]) == 0
    # From another place, where the relative paths of the configuration lead nowhere.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    page, [sample] = report(tmp_path / "run")
    assert len(sample["images"]) == 12
    assert all("source" in image for image in sample["images"])
    assert [prompt["iteration"] for prompt in sample["prompts"]] == [1] * 12 + [2] * 12
    assert "12 of 12 prompts" in page
    assert "No temperature sweep was made." in page
    assert '<section id="training">' in page


def test_an_annotation(tmp_path: Path, warm_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        "policy": str(warm_policy), "prompts": write_stored(tmp_path / "data", "annotation", 8), "output": "labels",
        "engine": {
            "class_path": "mstar.generation.TransformersEngine", "init_args": {"max_new_tokens": 26, "progress": False}
        },
        "settings": {"num_samples": 4, "num_continuations": 2, "unmixed_share": 1.0},
    }  # fmt: skip
    (tmp_path / "annotate.yaml").write_text(yaml.safe_dump(settings))
    assert main(["annotate", "--config", "annotate.yaml"]) == 0
    # From another place, where the relative paths of the configuration lead nowhere.
    monkeypatch.chdir(tmp_path / "labels")
    saved = yaml.safe_load((tmp_path / "labels" / "config.yaml").read_text())
    assert saved["settings"]["num_continuations"] == 2
    page, [labels] = report(tmp_path / "labels")
    assert len(labels["prompts"]) == 8
    assert all("source" in image for image in labels["images"])
    asked = {prompt.id: (prompt.question, prompt.answer) for prompt in TinyDice("annotation", 8)}
    assert {prompt["id"]: (prompt["question"], prompt["answer"]) for prompt in labels["prompts"]} == asked
    assert "Mean step label" in page
    # The labels' folder says how they were made; the same configuration goes on in it.
    monkeypatch.chdir(tmp_path)
    assert main(["annotate", "--config", str(tmp_path / "labels" / "config.yaml")]) == 0
