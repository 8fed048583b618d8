"""The rows of Parquet, CSV and TSV files and of what datasets saved."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar.errors import DataError
from mstar.prompts.quarantine import Reason, RowError
from mstar.prompts.row_files import open_rows
from mstar.prompts.table_rows import Row, dataset_rows


def read(column: str, rows: Iterable[Row]) -> list[Any]:
    return [row.reason if isinstance(row, RowError) else row[column] for row in rows]


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
        assert read("a", rows) == list(range(600)), name
    some = dataset_rows(Dataset.load_from_disk(tmp_path / "saved").select([5, 3]))
    assert read("a", some) == [5, 3]
    assert len(list(open_rows(str(tmp_path / "splits"), "test"))) == 3
    assert len(list(open_rows(str(tmp_path / "parquet"), "test"))) == 3
    with pytest.raises(DataError, match=r"no split 'exam'; it has \['test', 'train'\]"):
        open_rows(str(tmp_path / "splits"), "exam")


def test_shards_may_have_their_columns_in_any_order(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"b": ["y"], "a": [2]}), tmp_path / "1.parquet")
    assert list(open_rows(str(tmp_path))) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    pq.write_table(pa.table({"b": ["y"]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"2\.parquet' has the columns \['b'\], but '.*0\.parquet' has"):
        open_rows(str(tmp_path))


def test_text_that_is_no_utf8_is_damage(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    pq.write_table(pa.table({"a": texts}), tmp_path / "data.parquet")
    with pytest.raises(DataError, match=r"data\.parquet' is damaged \('utf-8' codec"):
        list(open_rows(str(tmp_path / "data.parquet")))


@pytest.mark.parametrize(("name", "mark"), [("d.csv", ","), ("d.csv", ";"), ("d.tsv", "\t")])
def test_text_tables(tmp_path: Path, name: str, mark: str) -> None:
    lines = ["a{0}b", '1{0}"x{0} y\nz"', "", "2", "3{0}w"]
    (tmp_path / name).write_text("\ufeff" + "\n".join(lines).format(mark), encoding="utf-8")
    rows = open_rows(str(tmp_path / name))
    assert read("a", rows) == ["1", Reason.MALFORMED, "3"]
    assert read("b", rows) == [f"x{mark} y\nz", Reason.MALFORMED, "w"]
    (tmp_path / name).write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(DataError, match="convert it to UTF-8"):
        list(open_rows(str(tmp_path / name)))
