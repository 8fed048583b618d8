"""MathVista from Parquet, JSON and TSV."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import DataError
from mstar.grading import AnswerGrader, MathVistaGrader
from mstar.prompts.benchmarks import MathVista
from mstar.types import AnswerType


@pytest.mark.parametrize("form", ["parquet", "json", "tsv"])
def test_every_form_of_the_file_gives_the_same_prompts(files: Any, shown: Any, form: str) -> None:
    path = {"parquet": files.mathvista_parquet, "json": files.mathvista_json, "tsv": files.mathvista_tsv}[form]()
    source = MathVista(str(path))
    assert [p.id for p in source] == [f"mathvista-{pid}" for pid in (1, 2, 3, 44, 506, 827, 587)]
    assert [p.answer_type for p in source] == [
        AnswerType.FLOAT, AnswerType.INTEGER, AnswerType.MULTI_CHOICE, AnswerType.INTEGER, AnswerType.LIST,
        AnswerType.MULTI_CHOICE, AnswerType.MULTI_CHOICE,
    ]  # fmt: skip
    assert [p.category for p in source] == ["TQA", "FQA", "GPS", "MWP", "FQA", "VQA", "GPS"]
    assert all(len(p.images) == 1 and shown(p.images[0], number) for number, p in enumerate(source))
    assert source[0].question == "By what distance $d$ is the spring compressed?"
    assert source[1].question == "what is the total volume of the measuring cup? (Unit: g)"
    assert source[2].question == "若∠A=110°,则∠BOC=( )\nChoices:\n(A) 135°\n(B) 140°\n(C) 145°\n(D) 150°"
    assert source[3].question == "How much will he spend? (Unit: $)"
    assert source[2].answer == "145°"
    assert [p.precision for p in source] == [1, None, None, None, None, None, None]
    assert dict(source.items[2].facets)["task"] == "GPS"
    skills = [value for name, value in source.items[2].facets if name == "skills"]
    assert skills == ["geometry reasoning", "algebraic reasoning"]


def test_precision_unit_and_groups_come_from_the_data_set(files: Any) -> None:
    source = MathVista(str(files.mathvista_parquet()))
    assert (source[0].precision, source[0].unit) == (1, None)
    assert (source[1].precision, source[1].unit) == (None, "g")
    assert [name for name, _ in source.items[0].facets] == [
        "task", "skills", "context", "category", "grade", "source", "question_type", "answer_type", "language",
    ]  # fmt: skip


def test_official_questions_are_the_published_queries(files: Any) -> None:
    source = MathVista(str(files.mathvista_parquet()), question_format="official")
    assert source[1].question.startswith("Hint: Please answer the question and provide the final value")
    assert source[1].question.endswith("(Unit: g)")


@pytest.mark.parametrize(
    ("pid", "response", "right"),
    [
        ("827", "The answer is E", True),
        ("827", "The answer is A", False),
        ("587", "The answer is (B)", True),
        ("587", "The answer is (A)", False),
        ("3", "The answer is (C) 145°.", True),
        ("1", "The answer is 1.23", True),
        ("2", "The answer is 1000 g.", True),
        ("506", "The answer is [2014, 2016]", True),
    ],
)
def test_gold_answers_are_gradeable(files: Any, pid: str, response: str, right: bool) -> None:
    source = MathVista(str(files.mathvista_parquet()))
    prompt = source[source.index_of(f"mathvista-{pid}")]
    assert AnswerGrader().grade(prompt, response).correct is right


def test_official_rules_read_the_gold_answer(files: Any) -> None:
    source = MathVista(str(files.mathvista_parquet()))
    grader = MathVistaGrader()
    for prompt in source:
        assert grader.grade(prompt, prompt.answer or "").correct, prompt.id


def test_the_split_without_answers_cannot_be_scored(files: Any) -> None:
    with pytest.raises(DataError, match="answers of the test split are not public, use testmini"):
        MathVista(str(files.mathvista_parquet()), split="test")


def test_precision_is_read_from_the_hint_where_it_is_no_column(files: Any, tmp_path: Path) -> None:
    hint = "Hint: Please answer the question requiring a floating-point number with two decimal places and provide it."
    text = Path(files.mathvista_tsv()).read_text(encoding="utf-8")
    path = tmp_path / "MathVista_MINI.tsv"
    path.write_text(text.replace("Hint: Please answer the question and provide the final value, e.g., 1, 2, 3, at the "
                                 "end.", hint, 1), encoding="utf-8")  # fmt: skip
    prompt = MathVista(str(path))[0]
    assert prompt.precision == 2
    assert prompt.question == "By what distance $d$ is the spring compressed?"


def test_a_prompt_is_small_for_another_process(files: Any, shown: Any) -> None:
    for path in (files.mathvista_parquet(), files.mathvista_tsv()):
        content = pickle.dumps(MathVista(str(path))[3])
        assert len(content) < 1500
        assert shown(pickle.loads(content).images[0], 3)  # noqa: S301 - it was pickled here


def test_a_wrong_file_is_named_with_its_columns(files: Any) -> None:
    with pytest.raises(
        DataError, match=r"lacks the columns \['choices', 'question_type', 'answer_type'\]; it has .*'options'"
    ):
        MathVista(str(files.ai2d_parquet() / "data/test-00000-of-00002.parquet"))
