"""MathVerse: versions, choices and golds, from a few rows in the columns of its published files."""

from __future__ import annotations

import pytest

from mstar.prompts.benchmarks import MathVerse
from tests.prompts.benchmarks.conftest import Write, cell, facets, right


def test_math_verse(parquet: Write) -> None:
    asked = "AB parallel CD, the angle is ()\nChoices:\nA:40°\nB:60°\nC:120°\nD:140°"
    common = {"metadata": {"split": "testmini", "source": "GeoQA", "subject": "Plane Geometry", "subfield": "Angle"},
              "query_wo": "", "query_cot": "", "question_for_eval": asked}  # fmt: skip
    rows = [
        {"sample_index": "1", "problem_index": "1", "problem_version": "Text Dominant", "question": asked,
         "image": cell(1), "answer": "D", "question_type": "multi-choice", **common},
        {"sample_index": "5", "problem_index": "1", "problem_version": "Vision Only", "question": "",
         "image": cell(2), "answer": "D", "question_type": "multi-choice", **common},
        {"sample_index": "6", "problem_index": "2", "problem_version": "Text Lite", "question": "How long is AB?",
         "image": cell(3), "answer": "7.5", "question_type": "free-form", **common},
    ]  # fmt: skip
    source = MathVerse(str(parquet("testmini.parquet", rows, ("image",))))
    assert source[0].question.endswith("(C) 120°\n(D) 140°")
    assert source[1].question == "Answer the question that is written in the picture."
    assert source[0].choices == source[1].choices == ("40°", "60°", "120°", "140°")
    assert facets(source, 1) == {
        "version": "Vision Only",
        "subject": "Plane Geometry",
        "subfield": "Plane Geometry: Angle",
    }
    assert right(source, 1, "Answer: D")
    assert not right(source, 1, "Answer: C")
    assert right(source, 2, "Answer: 7.5")
    # As published, the folder has the questions without pictures, too.
    beside = [{name: value for name, value in row.items() if name != "image"} for row in rows]
    assert len(MathVerse(str(parquet("testmini_text_only.parquet", beside, ()).parent))) == 3


@pytest.mark.parametrize(
    ("asked", "gold", "response", "wrong"),
    [
        ("\nChoice:\nA. True\nB. False", "False", "B", "A"),
        ("\nChoices:\nA.rises\nB.falls\nC.neither", "(C)", "C", "A"),
        ("\nChoose 2 answers:\nChoices:\nA:x\nB:y\nC:z", "A\nC", "A, C", "A"),
        ("\nChoices:\nA:x\nB:y\nC:z\nE:\nF:u", "C", "C", "B"),
    ],
)
def test_odd_choices_of_math_verse(parquet: Write, asked: str, gold: str, response: str, wrong: str) -> None:
    """Each of these forms is in testmini, where golds are texts, have brackets or are two letters."""
    row = {"sample_index": "1", "problem_version": "Text Dominant", "question": f"Which?{asked}", "image": cell(1),
           "answer": gold, "question_type": "multi-choice",
           "metadata": {"subject": "Functions", "subfield": "Property"}}  # fmt: skip
    source = MathVerse(str(parquet("testmini.parquet", [row], ("image",))))
    assert right(source, 0, f"Answer: {response}")
    assert not right(source, 0, f"Answer: {wrong}")


@pytest.mark.parametrize(
    ("gold", "answers"),
    [
        (r"Area $=113.1 \mathrm{~cm}^{2}$", ["113.1", "113.1 cm²", r"$113.1 \mathrm{~cm}^{2}$"]),
        (r"$\mathrm{SA}=3298.67 \mathrm{~cm}^{2}$", ["3298.67"]),
        (r"Surface Area $=603.186$ units $^{2}$", ["603.186"]),
        (r"Slope $=\frac{1}{5}$", ["1/5", r"$\frac{1}{5}$"]),
        ("y=-3", ["y=-3"]),
    ],
)
def test_golds_of_math_verse_that_say_what_they_are(parquet: Write, gold: str, answers: list[str]) -> None:
    row = {
        "sample_index": "1", "problem_version": "Text Lite", "question": "Find it.", "image": cell(1), "answer": gold,
        "question_type": "free-form", "metadata": {"subject": "Plane Geometry", "subfield": "Area"},
    }  # fmt: skip
    source = MathVerse(str(parquet("testmini.parquet", [row], ("image",))))
    assert [answer for answer in answers if not right(source, 0, f"Answer: {answer}")] == []
    assert not right(source, 0, "Answer: 7")
