"""The rows behind a path, and those of JSON files, read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import DataError
from mstar.prompts import row_files
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.row_files import folder_of, json_rows, open_rows
from mstar.prompts.table_rows import Row


def read(column: str, rows: Iterable[Row]) -> list[Any]:
    return [row.reason if isinstance(row, RowError) else row[column] for row in rows]


def test_a_folder_of_lines_is_one_data_set(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"b": 3}\n')
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    rows = open_rows(str(tmp_path))
    assert [row.get("a", row.get("b")) for row in rows if isinstance(row, dict)] == [1, 2, 3]
    assert read("_file", rows) == ["a", "a", "b"]
    assert read("_folder", rows) == [".", ".", "."]
    assert rows.columns() == ["a", "_file", "_folder", "b"]


def test_the_splits_of_a_folder_may_be_of_several_forms(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "validation.csv").write_text("a\n2\n")
    (tmp_path / "test.jsonl").write_text('{"a": 3}\n')
    parts = [read("a", open_rows(str(tmp_path), split)) for split in ("train", "validation", "test")]
    assert parts == [[1], ["2"], [3]]
    with pytest.raises(DataError, match="has no rows of the split 'dev'"):
        open_rows(str(tmp_path), "dev")
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.tsv").write_text("a\n4\n")
    assert read("a", open_rows(str(tmp_path))) == ["4"], "not those that are called test"


def test_what_is_no_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    for name, complaint in {
        "folder": r"is a folder without \.parquet, \.jsonl",
        "text.txt": "is none of",
        "gone.jsonl": "does not exist",
        "bad.parquet": "cannot be read as Parquet",
    }.items():
        with pytest.raises(DataError, match=complaint):
            open_rows(str(tmp_path / name))


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.parquet"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty file"),
        (b"\n\n", "is a file of nothing but white space"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n", "is a Git LFS pointer"),
    ],
)
def test_a_file_without_data_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}' {said}"):
        open_rows(str(tmp_path / name))


def test_one_of_several_shards_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "b.jsonl").write_text("")
    assert read("a", open_rows(str(tmp_path))) == [1]


def test_one_file_several_a_pattern_and_a_folder(tmp_path: Path) -> None:
    for name in ("a.json", "b.json", "other.csv"):
        (tmp_path / name).write_text('[{"q": 1}]' if name.endswith("json") else "q,x\n1,2\n")
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for path in (files, str(tmp_path / "*.json"), str(tmp_path)):
        assert read("_file", open_rows(path)) == ["a", "b"]
        assert folder_of(path) == str(tmp_path)
    assert len(list(open_rows([*files, str(tmp_path / "other.csv")]))) == 3
    assert len(list(open_rows(files[0]))) == 1
    for path, complaint in ((str(tmp_path / "*.parquet"), "no file fits"), ([files[0], "gone.json"], "does not exist")):
        with pytest.raises(DataError, match=complaint):
            open_rows(path)
    (tmp_path / "train.json").write_text('[{"q": 5}]')
    assert list(open_rows(str(tmp_path))) == [{"q": 5}]


def test_a_split_that_data_lacks_is_not_all_of_it(tmp_path: Path) -> None:
    files = ("train.jsonl", "val.jsonl", "parts/train/0.jsonl", "parts/test/0.jsonl", "mine_test.csv")
    for name in (*files, "deep/train/1/rows.jsonl", "deep/test/2/rows.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("q\n1\n" if name.endswith("csv") else '{"q": 1}\n')
    (tmp_path / "rows.json").write_text('{"train": [{"q": 2}], "test": [{"q": 1}]}')
    (tmp_path / "list.json").write_text('[{"q": 1}]')
    found = (
        ("", "train"), ("", "val"), ("parts", "train"), ("parts", "test"), ("parts/test", "test"),
        ("deep", "train"), ("deep", "test"), ("val.jsonl", "train"), ("mine_test.csv", "test"), ("rows.json", "test"),
        ("list.json", "train"),
    )  # fmt: skip
    for name, split in found:
        assert len(list(open_rows(str(tmp_path / name), split))) == 1, name
    for name, split in (("", "validation"), ("parts", "val"), ("train.jsonl", "test"), ("list.json", "test")):
        with pytest.raises(DataError, match=f"no rows of the split '{split}': neither its name"):
            list(open_rows(str(tmp_path / name), split))
    with pytest.raises(DataError, match="no rows of the split 'val'"):
        list(open_rows(str(tmp_path / "rows.json"), "val"))


def values(path: Path) -> list[Any]:
    return [row.reason if isinstance(row, RowError) else row for row in json_rows(path)]


ROWS = [{"a": 1, "b": "x, ]["}, {"a": 2}, {"b": 'ü \u2028 \\" {'}, {"a": [1, {"c": None}]}]


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_list_is_read_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    monkeypatch.setattr(row_files, "_CHUNK", chunk)
    path = tmp_path / "data.json"
    path.write_text(json.dumps(ROWS, indent=indent, ensure_ascii=ascii_only) + "\n", encoding="utf-8")
    assert values(path) == ROWS
    assert json_rows(path).columns() == ["a", "b"]


def test_lines_are_read_and_bad_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = [b'{"a": 1}', b"", b'{"a": ', b'{"a": "\xff"}', b"[1, 2]", b"7", b'\xef\xbb\xbf{"a": 2}', b"[" * 100_000]
    path.write_bytes(b"\r\n".join(lines))
    bad = Reason.MALFORMED
    assert values(path) == [{"a": 1}, bad, bad, Reason.WRONG_TYPE, Reason.WRONG_TYPE, {"a": 2}, bad]
    assert next(row.content for row in json_rows(path) if isinstance(row, RowError)) == '{"a":'


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
    with pytest.raises(DataError, match=rf"is damaged in row {row}"):
        list(json_rows(path))


def test_a_list_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(DataError, match="not UTF-8"):
        list(json_rows(path))


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


@pytest.mark.parametrize("path", ["We-Math/We-Math2.0-Pro", "OpenGVLab/MMPR-v1.2", "owner/name:part"])
def test_an_id_with_a_version_or_a_configuration(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load(name: str, config: str | None, split: str) -> None:
        asked.append((name, config))
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['ai2d', 'tqa']")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"among the available configs: \['ai2d', 'tqa'\].*owner/name:config"):
        open_rows(path)
    assert asked == [(path.partition(":")[0], "part" if ":" in path else None)]
