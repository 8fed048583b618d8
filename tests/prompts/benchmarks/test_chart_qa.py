"""ChartQA, as it is published by others and by its authors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mstar.prompts.benchmarks import ChartQA
from tests.prompts.benchmarks.conftest import Write, cell, facets, png, right


@pytest.mark.parametrize("form", ["query", "question"])
def test_chart_qa(parquet: Write, form: str) -> None:
    def row(gold: str, human: bool) -> Mapping[str, Any]:
        if form == "query":
            return {"image": cell(1), "query": "How much?", "label": [gold], "human_or_machine": 0 if human else 1}
        return {"image": cell(1), "question": "How much?", "answer": gold,
                "type": "human_test" if human else "augmented_test"}  # fmt: skip

    rows = [row("100", True), row("Yes", True), row("14.2%", False)]
    source = ChartQA(str(parquet("test-0.parquet", rows, ("image",))))
    assert [facets(source, index)["written by"] for index in range(3)] == ["human", "human", "augmented"]
    assert right(source, 0, "Answer: 104.9")
    assert not right(source, 0, "Answer: 105.1")
    assert right(source, 1, "Answer: yes")
    assert not right(source, 1, "Answer: no")
    assert right(source, 2, "Answer: 14")


@pytest.mark.parametrize("given", ["ChartQA Dataset", "ChartQA Dataset/test"])
def test_chart_qa_as_its_authors_publish_it(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "ChartQA Dataset/test"
    (folder / "png").mkdir(parents=True)
    (folder / "png/166.png").write_bytes(png(1))
    for writer, golds in (("human", ["62", "Yes"]), ("augmented", ["0.57"])):
        rows = [{"imgname": "166.png", "query": "How much?", "label": gold} for gold in golds]
        (folder / f"test_{writer}.json").write_text(json.dumps(rows))
    source = ChartQA(str(tmp_path / given))
    assert [(prompt.answer, prompt.category) for prompt in source] == [
        ("0.57", "augmented"), ("62", "human"), ("Yes", "human"),
    ]  # fmt: skip
    assert source[0].images[0].load().width > 0
