"""LogicVista, from a few rows of its published file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mstar.prompts.benchmarks import LogicVista
from mstar.types import AnswerType
from tests.prompts.benchmarks.conftest import png, right


def test_logic_vista(tmp_path: Path) -> None:
    def row(name: str, answer: str, skill: str) -> dict[str, Any]:
        return {"imagename": f"{name}.png", "question": f"{name}?", "answer": answer, "reasoning": "r",
                "skill": [skill], "broad_capability": ["diagram"], "specific_capability": ["chart"],
                "imagesource": "x", "sourcelink": "x", "liscenced": "true"}  # fmt: skip

    content = {"v1_0": row("v1_0", "C", "inductive"), "v1_1": row("v1_1", "A, C", "inductive"),
               "v1_20": row("v1_20", "3", "deductive"),
               "v1_382": row("v1_382", "", "spatial") | {"question": ""}}  # fmt: skip
    (tmp_path / "images").mkdir()
    for name in content:
        (tmp_path / f"images/{name}.png").write_bytes(png(1))
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    source = LogicVista(str(path))
    assert len(LogicVista(str(path), image_root=str(tmp_path / "images"))) == len(source)
    assert [prompt.answer_type for prompt in source] == [
        AnswerType.MULTI_CHOICE, AnswerType.MULTI_SELECT, AnswerType.TEXT,
    ]  # fmt: skip
    assert source.items[0].facets == (
        ("skill", "inductive"), ("broad_capability", "diagram"), ("specific_capability", "chart"),
    )  # fmt: skip
    verdicts = [(0, "Answer: C", True), (0, "Answer: A", False), (1, "Answer: A, C", True), (1, "Answer: A", False),
                (2, "Answer: 3", True)]  # fmt: skip
    assert [right(source, index, text) for index, text, _ in verdicts] == [expected for *_, expected in verdicts]
