"""Rows of JSON files, read piece by piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import DataError
from mstar.prompts import json_rows
from mstar.prompts.json_rows import JsonRows
from mstar.prompts.quarantine import Reason


def values(path: Path) -> list[Any]:
    return [dict(row.values) if row.error is None else row.error.reason for row in JsonRows(path)]


ROWS = [{"a": 1, "b": "x, ]["}, {"a": 2}, {"b": 'ü \u2028 \\" {'}, {"a": [1, {"c": None}]}]


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_list_is_read_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    monkeypatch.setattr(json_rows, "_CHUNK", chunk)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(ROWS, indent=indent, ensure_ascii=ascii_only) + "\n", encoding="utf-8")
    assert values(path) == ROWS
    assert JsonRows(path).columns() == ["a", "b"]


def test_lines_are_read_and_bad_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = [b'{"a": 1}', b"", b'{"a": ', b'{"a": "\xff"}', b"[1, 2]", b"7", b'\xef\xbb\xbf{"a": 2}', b"[" * 100_000]
    path.write_bytes(b"\r\n".join(lines))
    bad = Reason.MALFORMED
    assert values(path) == [{"a": 1}, bad, bad, Reason.WRONG_TYPE, Reason.WRONG_TYPE, {"a": 2}, bad]
    assert [row.number for row in JsonRows(path)] == list(range(7))


def test_what_is_no_object_in_a_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('[{"a": 1}, "text", null, 12]')
    assert values(path) == [{"a": 1}, Reason.WRONG_TYPE, Reason.WRONG_TYPE, Reason.WRONG_TYPE]


@pytest.mark.parametrize("content", ["[]", " [ ] ", "", "\n\n"])
def test_an_empty_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(content)
    assert values(path) == []


@pytest.mark.parametrize(
    ("content", "row"), [(b'[{"a": 1}, {"a"', 1), (b'[{"a": 1}', 1), (b'[{"a": 1} oops]', 1), (b"[{]", 0), (b"[", 0)]
)
def test_a_damaged_list_is_an_error(tmp_path: Path, content: bytes, row: int) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"breaks off or is damaged in row {row}"):
        list(JsonRows(path))


def test_a_list_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(DataError, match="not UTF-8"):
        list(JsonRows(path))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ({"7": {"a": 1}, "9": {"a": 2}}, [{"_key": "7", "a": 1}, {"_key": "9", "a": 2}]),
        ({"version": 1, "data": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}]),
        ({"test": [{"a": 1}], "train": [{"a": 2}]}, [{"a": 2}]),
        ({"info": {"x": 1}, "puzzles": [{"a": 1}]}, [{"a": 1}]),
        ({"data": {"7": {"a": 1}}}, [{"_key": "7", "a": 1}]),
        ({"a": 1, "b": [1, 2]}, [{"a": 1, "b": [1, 2]}]),
    ],
)
def test_one_object(tmp_path: Path, content: Any, rows: list[Any], indent: int | None) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(content, indent=indent))
    assert values(path) == rows


def test_lines_in_a_file_called_json(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('{"a": {"x": 1}}\n\n{"a": {"x": 2}}\n')
    assert values(path) == [{"a": {"x": 1}}, {"a": {"x": 2}}]
