"""DynaMath: variants of a question, as published and as its authors generate them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mstar.prompts.benchmarks import DynaMath
from tests.prompts.benchmarks.conftest import Write, cell, facets, png, right, shows


def test_dyna_math_counts_the_worst_variant(parquet: Write, tmp_path: Path) -> None:
    def rows(shift: float) -> list[dict[str, Any]]:
        kinds = [("1", "float", str(2.5 + shift)), ("2", "multiple choice", "B"), ("3", "text", "even")]
        return [
            {"id": seed, "question": f"{seed}?", "image": f"image{seed}.png", "decoded_image": cell(1),
             "ground_truth": gold, "answer_type": kind, "subject": "Algebra", "knowledge_level": "high school"}
            for seed, kind, gold in kinds
        ]  # fmt: skip

    for variant in (1, 2):
        parquet(f"dm/data/sample{variant}-00000-of-00001.parquet", rows(variant), ("decoded_image",))
    source = DynaMath(str(tmp_path / "dm"))
    assert len(source) == 6
    assert facets(source, 0) == {"subject": "Algebra", "level": "high school"}
    assert right(source, 0, "Answer: 3.5009")
    assert not right(source, 0, "Answer: 3.502")
    assert right(source, 1, "Answer: B")
    assert right(source, 2, "Answer: even")
    correct = {prompt.id: index != 3 for index, prompt in enumerate(source)}
    assert source.figures(correct) == {"worst case over variants": [0.0, 1.0, 1.0]}
    assert source.notes == ("3 of 3 questions have fewer than 10 variants: their worst case is of those.",)
    for variant in range(3, 11):
        parquet(f"dm/data/sample{variant}-00000-of-00001.parquet", rows(variant), ("decoded_image",))
    assert DynaMath(str(tmp_path / "dm")).notes == ()


def test_dyna_math_as_its_authors_generate_it(tmp_path: Path) -> None:
    for trial in (1, 2):
        (tmp_path / f"trial{trial}/image").mkdir(parents=True)
        (tmp_path / f"trial{trial}/image/image1.png").write_bytes(png(trial))
        row = {"question": "What is the period?", "answer": f"{trial}.5", "image": "image/image1.png",
               "answer_type": "float", "subject": "analytic geometry", "level": "high school"}  # fmt: skip
        (tmp_path / f"trial{trial}/dataset.json").write_text(json.dumps({"1": row}))
    source = DynaMath(str(tmp_path))
    assert [(prompt.id, prompt.answer) for prompt in source] == [("dynamath-1-0", "1.5"), ("dynamath-1-1", "2.5")]
    assert shows(source[1].images[0], 2)
    assert facets(source, 0) == {"subject": "analytic geometry", "level": "high school"}
    correct = {"dynamath-1-0": True, "dynamath-1-1": False}
    assert source.figures(correct) == {"worst case over variants": [0.0]}


def test_pictures_beside_a_file_in_a_hidden_folder(tmp_path: Path) -> None:
    (tmp_path / ".copy").mkdir()
    (tmp_path / ".copy/a.png").write_bytes(png(3))
    row = {"question": "?", "answer": "1.5", "image": "a.png", "answer_type": "float", "subject": "a", "level": "b"}
    (tmp_path / ".copy/dataset.json").write_text(json.dumps({"1": row}))
    assert shows(DynaMath(str(tmp_path))[0].images[0], 3)
