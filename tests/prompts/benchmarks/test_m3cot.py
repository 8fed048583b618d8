"""M3CoT: its splits' names, options, and the official form."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.errors import DataError
from mstar.grading import AnswerGrader
from mstar.prompts.benchmarks import M3CoT


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize(("split", "first"), [("test", 0), ("validation", 5), ("dev", 5)])
def test_m3cot_splits_have_two_names(files: Any, shown: Any, form: str, split: Any, first: int) -> None:
    path = files.m3cot_parquet() if form == "parquet" else files.m3cot_jsonl()
    source = M3CoT(str(path), split=split)
    assert len(source) == 3
    assert [shown(p.images[0], first + i) for i, p in enumerate(source)] == [True] * 3


def test_m3cot_keeps_options_that_name_other_options(files: Any) -> None:
    source = M3CoT(str(files.m3cot_parquet()))
    prompt = source[1]
    assert prompt.id == "m3cot-mathematics-888"
    assert prompt.answer == "the answer is option D in the image"
    grader = AnswerGrader()
    assert grader.grade(prompt, "The answer is (C)").correct
    assert not grader.grade(prompt, "The answer is (D)").correct
    assert source[2].question == (
        "Read the poem.\nDoes the sentence use a simile?\nChoices:\n(A) Option A in the image\n"
        "(B) Option B in the image\n(C) None of the provided options"
    )
    assert source.items[2].facets == (
        ("domain", "science"), ("topic", "language-science"), ("category", "Literary devices"),
    )  # fmt: skip


def test_m3cot_official_form(files: Any) -> None:
    source = M3CoT(str(files.m3cot_parquet()), question_format="official")
    assert source[2].question.startswith("[Context]\nRead the poem.\n\n[Question]\nDoes the sentence use a simile?\n")
    assert source[0].question.endswith("[Choices]\n(A) To scare away trespassers\n(B) To honor a local legend")


def test_m3cot_says_which_splits_a_file_has(files: Any) -> None:
    with pytest.raises(DataError, match=r"no rows of the split 'train'; it has \['test'\]"):
        M3CoT(str(files.m3cot_parquet() / "data/test-00000-of-00001.parquet"), split="train")
