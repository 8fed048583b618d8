"""What a source knows of its data without a look at its prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mstar.prompts import FieldMap, RecordPrompts
from mstar.prompts.facts import ColumnChoice, UnusableSourceError, explain_bad_row, first_of_each
from mstar.prompts.quarantine import BadRow, Reason

COLUMNS = (ColumnChoice("question", "problem", ""), ColumnChoice("images", "img", ""))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_first_row_of_each_reason_most_frequent_first() -> None:
    reasons = [Reason.NO_ANSWER, Reason.MISSING_IMAGE, Reason.MISSING_IMAGE]
    rows = [BadRow(number, reason, "") for number, reason in enumerate(reasons)]
    assert [row.row for row in first_of_each(rows)] == [1, 0]


@pytest.mark.parametrize(
    ("row", "columns", "said"),
    [
        (BadRow(3, Reason.EMPTY_QUESTION, "the question is empty"), COLUMNS,
         "row 3, column 'problem': the question is empty (name the column of the questions in fields.question)"),
        (BadRow(4, Reason.MISSING_IMAGE, "the column 'img' names no picture"), COLUMNS,
         "row 4: the column 'img' names no picture (get the pictures, and set "
         "image_root to the folder that the paths start from)"),
        # MathV360K has no field map, so nothing can be changed there.
        (BadRow(3, Reason.EMPTY_QUESTION, "the question is empty."), (), "row 3: the question is empty"),
        (BadRow(None, Reason.BAD_STEPS, "no steps", {"id": "a"}), (), "prompt 'a': no steps"),
    ],
)  # fmt: skip
def test_a_bad_row_names_row_column_and_remedy(row: BadRow, columns: tuple[ColumnChoice, ...], said: str) -> None:
    assert explain_bad_row(row, columns) == said


def test_columns_are_explained(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}", "problem": f"P{i}", "answer": "1", "level": 2} for i in range(3)]
    path = write(tmp_path / "data.jsonl", rows)
    guessed = RecordPrompts(path).facts()
    assert [(c.role, c.column, c.why) for c in guessed.columns] == [
        ("question", "problem", "has a usual name, and so has 'prompt'"),
        ("answer", "answer", "has a usual name"),
    ]
    assert guessed.unread == ("prompt", "level")
    named = RecordPrompts(path, FieldMap(question="prompt", answer="level")).facts()
    assert [(c.column, c.why) for c in named.columns] == [
        ("prompt", "named in 'fields'"),
        ("level", "named in 'fields'"),
    ]


def test_counts_are_those_of_the_prompts_and_not_of_the_table(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    rows = [
        {"question": "Q0", "answer": "12", "image": ["a.png", "a.png"]},
        {"question": "Q1", "answer": "blue", "image": []},
        {"question": "Q2", "answer": "13", "image": "a.png"},
    ]
    source = RecordPrompts(write(tmp_path / "data.jsonl", rows), size=2)
    facts = source.facts()
    assert (facts.rows, facts.answer_types, facts.pictures) == (3, {"integer": 1, "text": 1}, {2: 1, 0: 1})


@pytest.mark.parametrize("share", [None, 1.0])
def test_unusable_data_still_tells_what_is_known(tmp_path: Path, share: float | None) -> None:
    rows = [{"question": f"Q{i}", "answer": "", "solution": "1"} for i in range(3)]
    path = write(tmp_path / "data.jsonl", rows)
    with pytest.raises(
        UnusableSourceError, match=r"One: row 0.*'answer' is empty \(name .* in fields\.answer\)"
    ) as error:
        RecordPrompts(path, max_bad_share=share)
    facts = error.value.facts
    assert facts.bad == {Reason.NO_ANSWER: 3}
    assert [row.row for row in facts.examples] == [0]
    assert [choice.column for choice in facts.columns] == ["question", "answer", "solution"]
