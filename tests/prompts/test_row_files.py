"""The rows behind a path."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar.errors import DataError
from mstar.prompts.quarantine import Reason
from mstar.prompts.row_files import TableRows, open_rows


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
        "folder": r"without \.parquet or \.jsonl files",
        "text.txt": "is neither JSON",
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
    assert [row.values for row in open_rows(str(tmp_path))] == [{"a": 1}]
