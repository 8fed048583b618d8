"""Rows of files, read piece by piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import DataError
from mstar.prompts import raw_rows
from mstar.prompts.quarantine import Reason
from mstar.prompts.raw_rows import JsonRows, open_rows


def values(path: Path) -> list[Any]:
    return [dict(row.values) if row.error is None else row.error.reason for row in JsonRows(path)]


ROWS = [{"a": 1, "b": "x, ]["}, {"a": 2}, {"b": 'ü \u2028 \\" {'}, {"a": [1, {"c": None}]}]


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_list_is_read_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    monkeypatch.setattr(raw_rows, "_CHUNK", chunk)
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


def test_a_folder_of_lines_is_one_data_set(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"b": 3}\n')
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    rows = open_rows(str(tmp_path))
    assert [(row.number, dict(row.values)) for row in rows] == [(0, {"a": 1}), (1, {"a": 2}), (2, {"b": 3})]
    assert rows.columns() == ["a", "b"]


def test_parquet_and_saved_folders(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    data = Dataset.from_list([{"a": i, "b": str(i)} for i in range(600)])
    (tmp_path / "parquet" / "data").mkdir(parents=True)
    data.to_parquet(tmp_path / "one.parquet")
    data.select(range(300)).to_parquet(tmp_path / "parquet" / "data" / "train-00000-of-00002.parquet")
    data.select(range(300, 600)).to_parquet(tmp_path / "parquet" / "data" / "train-00001-of-00002.parquet")
    data.select(range(3)).to_parquet(tmp_path / "parquet" / "data" / "test-00000-of-00001.parquet")
    data.save_to_disk(tmp_path / "saved")
    DatasetDict({"train": data, "test": data.select(range(3))}).save_to_disk(tmp_path / "splits")
    for name in ("one.parquet", "parquet", "saved", "splits"):
        rows = open_rows(str(tmp_path / name))
        assert rows.columns() == ["a", "b"]
        assert [row.values["a"] for row in rows] == [row.number for row in rows] == list(range(600)), name
    some = raw_rows.TableRows(Dataset.load_from_disk(tmp_path / "saved").select([5, 3]))
    assert [(row.number, row.values["a"]) for row in some] == [(0, 5), (1, 3)]
    assert len(list(open_rows(str(tmp_path / "splits"), "test"))) == 3
    assert len(list(open_rows(str(tmp_path / "parquet"), "test"))) == 3
    with pytest.raises(DataError, match=r"no split 'exam'; it has \['test', 'train'\]"):
        open_rows(str(tmp_path / "splits"), "exam")


def test_what_is_no_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    for name, complaint in {
        "folder": r"without \.parquet or \.jsonl files",
        "text.txt": "is neither JSON",
        "gone.jsonl": "does not exist",
        "bad.parquet": "cannot be read as Parquet",
    }.items():
        with pytest.raises(DataError, match=complaint):
            open_rows(str(tmp_path / name))
