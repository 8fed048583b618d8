"""MATH-Vision, from a few rows in the columns of its published files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mstar.prompts.benchmarks import MathVision
from tests.prompts.benchmarks.conftest import Write, cell, facets, png, right


def test_math_vision(parquet: Write, tmp_path: Path, shown: Any) -> None:
    rows = [
        {"id": "4", "question": "How many digits?\n<image1>", "options": [], "image": "images/4.jpg",
         "decoded_image": cell(4), "answer": "6", "solution": None, "level": 1, "subject": "counting"},
        {"id": "55", "question": "Which word is formed?\n<image1>", "options": ["KNAO", "KNGO"],
         "image": "images/55.jpg", "decoded_image": cell(5), "answer": "B", "solution": None, "level": 3,
         "subject": "logic"},
    ]  # fmt: skip
    parquet("mv/data/test-00000-of-00001-3532b8d3f1b4047a.parquet", rows, ("decoded_image",))
    source = MathVision(str(tmp_path / "mv"))
    assert [prompt.question for prompt in source] == [
        "How many digits?",
        "Which word is formed?\nChoices:\n(A) KNAO\n(B) KNGO",
    ]
    assert facets(source, 1) == {"subject": "logic", "level": "3"}
    assert shown(source[1].images[0], 5)
    assert right(source, 0, "Answer: 6")
    # The letter and the option's value, as by the official rule.
    assert right(source, 1, "Answer: B")
    assert right(source, 1, "Answer: KNGO")
    (tmp_path / "images").mkdir()
    for row in rows:
        (tmp_path / str(row.pop("image"))).write_bytes(png(1))
        row["image"] = f"images/{row['id']}.jpg"
        del row["decoded_image"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    copy = MathVision(str(tmp_path / "data/test.jsonl"), image_root=str(tmp_path))
    assert [prompt.question for prompt in copy] == [prompt.question for prompt in source]
