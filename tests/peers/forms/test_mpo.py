"""The form of InternVL's MPO, read by its documented columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mstar.annotation.step_label_forms import read_labelled_row

from ..conftest import WRONG  # type: ignore[import-not-found]
from .conftest import export, lines  # type: ignore[import-not-found]


def test_mpo(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = export(run, "mpo")
    file, text = lines(folder / "preference.jsonl")
    assert file == {
        "image": str(run.parent / "data/red.jpg"), "question": "<image>\nWhich colour?",
        "chosen": "It is\nAnswer: red", "rejected": WRONG[0], "id": "file",
    }  # fmt: skip
    assert "image" not in text
    assert (
        "3 rows are left out: the prompt has a system prompt or earlier turns, and a row of MMPR has one"
        in capsys.readouterr().err
    )
    [about] = json.loads((folder / "meta_preference.json").read_text()).values()
    assert about["annotation"] == str(folder / "preference.jsonl")
    assert about["length"] == 2
    own, chat, *_ = lines(folder / "sft.jsonl")
    assert own["conversations"][0]["value"] == "<image>\nWhich colour?"
    # InternVL's loader of a single path would write a mark into the system's turn.
    assert isinstance(own["image"], str)
    assert (chat["conversations"][0]["from"], len(chat["image"])) == ("system", 1)
    assert isinstance(chat["image"], list)
    # As mstar itself reads VisualPRM400K.
    read = read_labelled_row(lines(folder / "steps.jsonl")[1])
    assert (read.steps, read.labels) == (("two",), ((0, 1),))
    assert len(read.images) == 1
