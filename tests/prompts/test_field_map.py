"""Columns by their usual names, and what is said once for all rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mstar.errors import ConfigError
from mstar.grading import AnswerGrader
from mstar.prompts import FieldMap, RecordPrompts
from mstar.types import AnswerType, Tolerance
from tests.prompts.record_files import write_lines


def test_usual_names_need_no_map(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    row = {"query": "Q?", "image": "a.png", "gold": "3", "response": "Step one.\nThe answer is 3", "source": "S"}
    [prompt] = RecordPrompts(write_lines(tmp_path / "data.jsonl", [row]))
    assert (prompt.question, prompt.answer, prompt.answer_type) == ("Q?", "3", AnswerType.INTEGER)
    assert (prompt.rationale, prompt.category, len(prompt.images)) == ("Step one.\nThe answer is 3", "S", 1)


def test_columns_of_flattened_objects(tmp_path: Path) -> None:
    rows = [{"problem": "1 + 1?", "reward_model.ground_truth": "2", "reward_model.style": "rule"}]
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows))
    assert (source[0].answer, source.facts().unread) == ("2", ("reward_model.style",))


def test_what_kind_all_answers_are_is_said_once(tmp_path: Path) -> None:
    """DocVQA's rows do not say that they are compared by ANLS, nor RefCOCO's that they are boxes."""
    row = {"question": "Who?", "answers": ["Ann Lee", "A. Lee"]}
    [prompt] = RecordPrompts(write_lines(tmp_path / "a.jsonl", [row]), FieldMap(answer_type="anls"))
    assert (prompt.answer_type, prompt.answer, prompt.answers) == (AnswerType.ANLS, "Ann Lee", ("A. Lee",))
    box = {"problem": "The man in red", "solution": [10.5, 20, 100, 200]}
    fields = FieldMap(answer="solution", answer_type="box")
    [prompt] = RecordPrompts(write_lines(tmp_path / "b.jsonl", [box]), fields)
    assert (prompt.answer, prompt.answers, prompt.rationale) == ("[10.5, 20, 100, 200]", (), None)
    assert AnswerGrader().grade(prompt, "Answer: [10, 20, 100, 201]").correct


def test_a_tolerance_may_be_said_once_for_all_rows(tmp_path: Path) -> None:
    """ChartQA and PlotQA take numbers that are off by 5 %, and no row says so."""
    path = write_lines(tmp_path / "a.jsonl", [{"query": "How long?", "label": "200"}, {"query": "Who?", "label": "A"}])
    number, text = RecordPrompts(path, FieldMap(answer="label", tolerance=Tolerance(relative=0.05)))
    grade = AnswerGrader().grade
    assert grade(number, "Answer: 209").correct
    assert not grade(number, "Answer: 211").correct
    assert grade(text, "Answer: A").correct
    with pytest.raises(ConfigError, match=r"fields\.tolerance\.relative is -1"):
        FieldMap(tolerance=Tolerance(relative=-1))
