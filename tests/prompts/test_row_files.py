"""The rows behind a path."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar.errors import DataError
from mstar.prompts.quarantine import Reason
from mstar.prompts.row_files import TableRows, folder_of, open_rows


def test_a_folder_of_lines_is_one_data_set(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"b": 3}\n')
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    rows = open_rows(str(tmp_path))
    assert [(row.number, dict(row.values)) for row in rows] == [
        (0, {"a": 1, "_file": "a"}), (1, {"a": 2, "_file": "a"}), (2, {"b": 3, "_file": "b"}),
    ]  # fmt: skip
    assert rows.columns() == ["a", "b", "_file"]


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
    some = TableRows(Dataset.load_from_disk(tmp_path / "saved").select([5, 3]))
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
        "folder": r"is a folder without \.parquet, \.jsonl",
        "text.txt": "is none of",
        "gone.jsonl": "does not exist",
        "bad.parquet": "cannot be read as Parquet",
    }.items():
        with pytest.raises(DataError, match=complaint):
            open_rows(str(tmp_path / name))


def test_shards_may_have_their_columns_in_any_order(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"b": ["y"], "a": [2]}), tmp_path / "1.parquet")
    assert [dict(row.values) for row in open_rows(str(tmp_path))] == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    pq.write_table(pa.table({"b": ["y"]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"2\.parquet' has the columns \['b'\], but '.*0\.parquet' has"):
        open_rows(str(tmp_path))


def test_a_row_that_is_no_utf8_is_put_aside_alone(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    pq.write_table(pa.table({"a": texts}), tmp_path / "data.parquet")
    rows = list(open_rows(str(tmp_path / "data.parquet")))
    assert [(row.number, row.values.get("a")) for row in rows] == [(0, "a"), (1, None), (2, "c")]
    assert rows[1].error is not None
    assert rows[1].error.reason is Reason.BAD_TEXT


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


def test_lines_that_end_with_cr_alone_are_said(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"a": 1}\r{"a": 2}\r')
    with pytest.raises(DataError, match="ends its lines with CR alone"):
        open_rows(str(path))
    for whole in (b'{"a": 1}\r\n{"a": 2}\r\n', b'[{"a": 1},\r{"a": 2}]\r', b'{"a": 1}\n{"a": 2}'):
        path.write_bytes(whole)
        assert [row.values for row in open_rows(str(path))] == [{"a": 1}, {"a": 2}]


def test_one_of_several_shards_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "b.jsonl").write_text("")
    assert [row.values for row in open_rows(str(tmp_path))] == [{"a": 1, "_file": "a"}]


def test_one_file_several_a_pattern_and_a_folder(tmp_path: Path) -> None:
    for name in ("a.json", "b.json", "other.csv"):
        (tmp_path / name).write_text('[{"q": 1}]' if name.endswith("json") else "q,x\n1,2\n")
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for path in (files, str(tmp_path / "*.json"), str(tmp_path)):
        assert [(row.number, row.values["_file"]) for row in open_rows(path)] == [(0, "a"), (1, "b")]
        assert folder_of(path) == str(tmp_path)
    assert len(list(open_rows([*files, str(tmp_path / "other.csv")]))) == 3
    assert len(list(open_rows(files[0]))) == 1
    for path, complaint in ((str(tmp_path / "*.parquet"), "no file fits"), ([files[0], "gone.json"], "does not exist")):
        with pytest.raises(DataError, match=complaint):
            open_rows(path)
    (tmp_path / "train.json").write_text('[{"q": 5}]')
    assert [dict(row.values) for row in open_rows(str(tmp_path))] == [{"q": 5}]


@pytest.mark.parametrize(("name", "mark"), [("d.csv", ","), ("d.csv", ";"), ("d.tsv", "\t")])
def test_text_tables(tmp_path: Path, name: str, mark: str) -> None:
    lines = ["a{0}b", '1{0}"x{0} y\nz"', "", "2", "3{0}w"]
    (tmp_path / name).write_text("\ufeff" + "\n".join(lines).format(mark), encoding="utf-8")
    rows = list(open_rows(str(tmp_path / name)))
    assert [dict(row.values) for row in rows] == [{"a": "1", "b": f"x{mark} y\nz"}, {}, {"a": "3", "b": "w"}]
    assert rows[1].error is not None
    assert rows[1].error.reason is Reason.MALFORMED
    (tmp_path / name).write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(DataError, match="convert it to UTF-8"):
        list(open_rows(str(tmp_path / name)))
