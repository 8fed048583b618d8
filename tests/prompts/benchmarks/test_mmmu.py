"""MMMU and MMMU-Pro, from a few rows in the columns of their published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mstar.errors import DataError
from mstar.prompts.benchmarks import MMMU, MMMUPro
from tests.prompts.benchmarks.conftest import Write, cell, facets, right

PICTURES = tuple(f"image_{number}" for number in range(1, 8))


def mmmu_row(name: str, kind: str, options: str, answer: str, **more: Any) -> dict[str, Any]:
    images = {f"image_{number}": cell(number) if number < 3 else None for number in range(1, 8)}
    return {"id": name, "question": "Is <image 1> like <image 2>?", "options": options, "explanation": "", **images,
            "img_type": "['Tables']", "answer": answer, "topic_difficulty": "Easy", "question_type": kind,
            "subfield": "s", **more}  # fmt: skip


def test_mmmu(parquet: Write, tmp_path: Path, shown: Any) -> None:
    rows = [
        mmmu_row("validation_Art_Theory_1", "multiple-choice", "['<image 1>', 'no']", "B"),
        mmmu_row("validation_Art_Theory_2", "open", "[]", "['24/7', '3.429']"),
    ]
    parquet("mmmu/Art_Theory/validation-00000-of-00001.parquet", rows, PICTURES)
    parquet("mmmu/Art_Theory/test-00000-of-00001.parquet", [rows[1] | {"answer": "?"}], PICTURES)
    other = mmmu_row("validation_Math_1", "multiple-choice", "['<image 1>', 'no']", "A")
    parquet("mmmu/Math/validation-00000-of-00001.parquet", [other], PICTURES)
    source = MMMU(str(tmp_path / "mmmu"))
    # Pictures are told apart by their names.
    assert len({image.uri for prompt in source for image in prompt.images}) == 6
    assert source[0].question == "Is (image 1) like (image 2)?\nChoices:\n(A) (image 1)\n(B) no"
    assert [shown(image, number + 1) for number, image in enumerate(source[0].images)] == [True, True]
    assert len({image.uri for image in source[0].images}) == 2
    assert facets(source, 0) == {"discipline": "Art and Design", "subject": "Art_Theory"}
    assert right(source, 0, "Answer: B")
    assert right(source, 1, "Answer: 24/7")
    # By the official rule two decimals count.
    assert right(source, 1, "Answer: 3.43")
    assert not right(source, 1, "Answer: 3.4")
    with pytest.raises(DataError, match="the answers of test are not public"):
        MMMU(str(tmp_path / "mmmu"), split="test")


def test_mmmu_names_pictures_that_no_column_holds(parquet: Write) -> None:
    """As validation_Math_7 does, whose options name up to 30."""
    row = mmmu_row("validation_Math_7", "multiple-choice", "['<image 7>, <image 8>', '<image 13>']", "B")
    source = MMMU(str(parquet("validation-0.parquet", [row], PICTURES)))
    assert source[0].choices == ("(image 7), (image 8)", "(image 13)")


def test_mmmu_pro_has_two_settings_and_their_mean(parquet: Write, tmp_path: Path) -> None:
    options = repr([f"option {number}" for number in range(10)])
    standard = mmmu_row("test_History_1", "multiple-choice", options, "J", subject="History")
    # As validation_Accounting_29 is published.
    nested = mmmu_row("validation_Accounting_29", "multiple-choice", "[['A', 'B', 'Not enough information']]", "B")
    parquet("pro/standard (10 options)/test-00000-of-00002.parquet", [standard, nested | {"subject": "a"}], PICTURES)
    vision = {"id": "test_History_1", "image": cell(3), "options": options, "answer": "J", "subject": "History"}
    parquet("pro/vision/test-00000-of-00004.parquet", [vision], ("image",))
    source = MMMUPro(str(tmp_path / "pro"))
    assert [facets(source, index)["setting"] for index in (0, 2)] == ["standard", "vision"]
    assert source.averaged == "setting"
    assert source[1].choices == ("A", "B", "Not enough information")
    assert source[2].question == "Answer the question that is written in the picture."
    assert right(source, 2, "Answer: J")
    assert MMMUPro(str(tmp_path / "pro"), setting="vision").averaged == ""
    with pytest.raises(DataError, match="does not exist"):
        MMMUPro(str(tmp_path / "pro"), setting="standard_4")
