"""Rows with responses, as ``grade`` and ``score`` read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar.errors import ConfigError
from mstar.prompts.quarantine import RowError
from mstar.prompts.response_rows import find_response_files, read_response_rows, to_prompt
from mstar.types import AnswerType


def test_what_is_wrong_with_a_line_is_said_and_the_others_are_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [
        '{"response": "4", "answer": "4"}',
        "",
        "{not json",
        "[1]",
        '{"answer": "4"}',
        '{"response": "4"}',
        '{"response": "4", "answer": "4", "choices": "4"}',
        '{"response": "4", "answer": "4", "answer_type": "number"}',
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    rows = dict(read_response_rows(str(file), answered=True))
    assert list(rows) == [1, 3, 4, 5, 6, 7, 8]
    assert rows[1] == {"response": "4", "answer": "4"}
    said = [
        "JSON",
        "a JSON list",
        "'response' is missing",
        "'answer' is missing",
        "'choices' is '4'",
        "'answer_type' is",
    ]
    assert all(words in str(row) for words, row in zip(said, list(rows.values())[1:], strict=True))
    # Without a need for gold answers, a row may do without.
    assert isinstance(dict(read_response_rows(str(file), answered=False))[6], dict)


def test_numbers_that_parquet_does_not_know_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    table = {"response": ["4", "5"], "answer": ["4", "5"], "precision": [2.0, float("nan")]}
    pq.write_table(pa.table(table), file)
    assert [row["precision"] for _, row in read_response_rows(str(file), answered=True) if isinstance(row, dict)] == [
        2.0,
        None,
    ]


def test_a_folder_s_files_are_its_shards(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no responses-\*.parquet"):
        find_response_files(str(tmp_path))
    for name in ("responses-0001.parquet", "responses-0000.parquet", "examples.parquet"):
        (tmp_path / name).touch()
    assert [file.name for file in find_response_files(str(tmp_path))] == [
        "responses-0000.parquet",
        "responses-0001.parquet",
    ]
    with pytest.raises(ConfigError, match="is not a file, nor a folder"):
        find_response_files(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("row", "golds"),
    [
        ({"answer": "7", "answers": ["seven"]}, ("7", "seven")),
        ({"answer": ["7", "seven"]}, ("7", "seven", '["7", "seven"]')),
        ({"answer": [1, 2], "answer_type": "list"}, ("[1, 2]",)),
        ({"answer": 7}, ("7",)),
        # What a run voted for is no gold answer.
        ({"answer": "7", "voted": True}, ()),
    ],
)
def test_gold_answers_of_a_row(row: dict[str, Any], golds: tuple[str, ...]) -> None:
    assert to_prompt(json.loads(json.dumps(row)), "p").golds == golds


def test_options_make_a_choice_and_another_type_is_an_error() -> None:
    assert to_prompt({"answer": "A", "choices": ["x", "y"]}, "p").answer_type is AnswerType.MULTI_CHOICE
    with pytest.raises(RowError, match="'unit' is 5, but it is a text"):
        to_prompt({"answer": "A", "unit": 5}, "p")
