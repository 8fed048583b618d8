"""The rows behind a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.errors import DataError
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
