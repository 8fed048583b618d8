"""The form of LLaMA-Factory, read by its documented columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mstar.errors import DataError
from mstar.peers.forms.base import answered
from mstar.peers.rows import Kept
from mstar.types import Prompt

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


@pytest.mark.parametrize("mark", ["<image>", "<video>", "<audio>"])
def test_no_text_stands_for_a_medium_that_is_not_there(mark: str) -> None:
    for question, response in ((f"What is {mark} in HTML?", "A tag"), ("Which tag?", f"{mark}, of course")):
        with pytest.raises(DataError, match=f"has '{mark}' in it"):
            answered(Kept(Prompt("p", question), response))


def test_a_thought_that_the_chat_template_opened_is_opened_in_the_row() -> None:
    """LLaMA-Factory and ms-swift look for `<think>`; ms-swift put an empty thought before the one that is there."""
    begun = "It is 3?\nNo.\n</think>\n\nAnswer: 4"
    for response, written in ((begun, f"<think>\n{begun}"), *[(text, text) for text in (f"<think>\n{begun}", "4")]):
        assert answered(Kept(Prompt("p", "2 + 2?"), response))[-1]["content"] == written
