"""The form of LLaMA-Factory, read by its documented columns."""

from __future__ import annotations

import json
from pathlib import Path

from ..conftest import WRONG  # type: ignore[import-not-found]
from .conftest import ASKED, export, lines  # type: ignore[import-not-found]


def test_llama_factory(run: Path) -> None:
    folder = export(run, "llama-factory")
    described = json.loads((folder / "dataset_info.json").read_text())
    assert set(described) == {"mstar_sft", "mstar_preference", "mstar_steps"}
    for name, about in described.items():
        rows = lines(folder / about["file_name"])
        assert rows
        # Every column that is described is in every row.
        assert all(set(about["columns"].values()) <= set(row) for row in rows), name
        assert about.get("ranking", False) is (name == "mstar_preference")
    pair = lines(folder / "preference.jsonl")[1]
    assert pair["messages"] == ASKED
    assert (pair["chosen"]["content"], pair["rejected"]["content"]) == ("a 3", WRONG[0])
