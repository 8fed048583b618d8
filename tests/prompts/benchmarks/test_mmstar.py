"""MMStar and MMStar-R: options in all layouts of their texts."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.errors import DataError
from mstar.prompts.benchmarks import MMStar
from mstar.prompts.benchmarks.mmstar import split_question


@pytest.mark.parametrize("form", ["parquet", "tsv"])
def test_mmstar_finds_options_in_all_layouts(files: Any, shown: Any, form: str) -> None:
    source = MMStar(str(files.mmstar_parquet() if form == "parquet" else files.mmstar_tsv()))
    assert [p.id for p in source] == ["mmstar-0", "mmstar-900", "mmstar-1200", "mmstar-1499"]
    assert [p.choices for p in source] == [
        ("The suitcase, red, is on the book.", "Ratio: 3", "The suitcase is beneath the bed."),
        ("4", "6", "8", "2"),
        ("x = 1", "x = 2", "both (A) and (B)"),
        ("5", "Other Answers"),
    ]
    assert [p.answer for p in source] == ["The suitcase, red, is on the book.", "6", "both (A) and (B)", "5"]
    assert source[1].question == (
        "How many algorithms have accuracies higher than 2?\nChoices:\n(A) 4\n(B) 6\n(C) 8\n(D) 2"
    )
    assert source[2].question.startswith("As shown, (A) and (B) are points. Which holds?\nChoices:\n(A) x = 1\n")
    assert source[3].question == (
        "How many chirality centers does the molecule have?\nChoices:\n(A) 5\n(B) Other Answers"
    )
    assert [shown(p.images[0], i) for i, p in enumerate(source)] == [True] * 4
    assert dict(source.items[3].facets)["source"] == "MMMU"


def test_mmstar_r_is_four_categories(files: Any) -> None:
    source = MMStar(str(files.mmstar_parquet()), subset="reasoning")
    assert source.name == "MMStar-R"
    assert {p.category for p in source} == {"logical reasoning", "math", "science & technology"}


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Q?\nOptions: A: 1, 2, B: 3: 4, C: nan, D: nan", "Q?", {"A": "1, 2", "B": "3: 4", "C": "nan", "D": "nan"}),
        ("Options: which? Options: A: x, B: y", "Options: which?", {"A": "x", "B": "y"}),
        ("Q? (A) x (B) y", "Q?", {"A": "x", "B": "y"}),
        ("Hint: h\nQuestion: Q?\n(A) x\n(B) y", "Q?", {"A": "x", "B": "y"}),
    ],
)
def test_questions_are_taken_apart(text: str, question: str, options: dict[str, str]) -> None:
    assert split_question(text) == (question, options)


def test_a_question_without_options_is_an_error() -> None:
    with pytest.raises(DataError, match="options cannot be found"):
        split_question("How many?\nOptions: none")
