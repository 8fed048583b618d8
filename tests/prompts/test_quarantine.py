"""What is put aside, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mstar.errors import DataError
from mstar.prompts.quarantine import (
    BadRow,
    PutAside,
    QuarantineFile,
    Reason,
    count_reasons,
    quarantine_shard,
    write_quarantine,
)


def test_a_line_is_json_whatever_the_row_holds(tmp_path: Path) -> None:
    content = {"text": "\ud83d" * 2, "long": "x" * 5000, "bytes": b"abc", "nested": [{"a": None}, 1.5], "other": {1}}
    write_quarantine(tmp_path / "bad.jsonl", [BadRow(3, Reason.BAD_TEXT, "why", content)])
    [line] = map(json.loads, (tmp_path / "bad.jsonl").read_text(encoding="utf-8").splitlines())
    assert (line["row"], line["reason"], line["detail"]) == (3, "bad_text", "why")
    assert line["content"]["bytes"] == "(3 bytes)"
    assert line["content"]["long"] == "x" * 2000 + "... (5000 characters)"
    assert line["content"]["nested"] == [{"a": None}, 1.5]
    assert line["content"]["other"] == "{1}"


def test_the_share_counts_faults_alone() -> None:
    counts = {Reason.NO_ANSWER: 5, Reason.CONFLICTING_ANSWERS: 90}
    tally = PutAside("D", counts, 100, Path("bad.jsonl"))
    tally.check(0.05)
    with pytest.raises(DataError, match=r"D: 5 of 100 rows are bad \(5\.0%: 5 no_answer\).*max_bad_share 0\.04"):
        tally.check(0.04)


def test_only_the_first_process_speaks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    PutAside("D", {Reason.NO_ANSWER: 5}, 10, Path("bad.jsonl")).announce(2)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("LOCAL_RANK", "0")
    PutAside("D", {Reason.NO_ANSWER: 5}, 10, Path("bad.jsonl")).announce(2)
    assert "5 of 10 rows are put aside (5 no_answer)" in capsys.readouterr().err
    PutAside("D", {}, 10, Path("bad.jsonl")).announce()
    assert capsys.readouterr().err == ""


def too_many(bad: int, total: int, share: float | None) -> bool:
    try:
        PutAside("D", {Reason.NO_ANSWER: bad}, total, Path("bad.jsonl")).check(share)
    except DataError:
        return True
    return False


@pytest.mark.parametrize(
    ("total", "most"),
    [(4, 1), (12, 3), (40, 10), (57, 10), (200, 10), (1000, 50)],
)
def test_of_few_rows_a_larger_share_may_be_bad_unless_a_share_is_set(total: int, most: int) -> None:
    assert not too_many(most, total, None)
    assert too_many(most + 1, total, None)
    assert too_many(1, total, 0.0)
    assert not too_many(total, total, 1.0)
    assert too_many(most, total, 0.04)


def bad(row: int, reason: Reason = Reason.BROKEN_IMAGE) -> BadRow:
    return BadRow(row, reason, f"row {row} is bad.", {"id": str(row)})


def test_processes_share_a_file_and_count_a_row_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "quarantine" / "train.jsonl"
    first, second = (QuarantineFile(path, "data.train", 100, 0.03, "data.max_bad_share") for _ in range(2))
    first.add([bad(3)])
    second.add([bad(3), bad(5, Reason.TOO_LONG)])
    first.add([bad(5, Reason.TOO_LONG)])
    assert [json.loads(line)["row"] for line in path.read_text().splitlines()] == [3, 5]
    second.add([bad(7)])
    with pytest.raises(DataError, match=r"data\.train: 4 of 100 rows.*max_bad_share 0\.03\. One: row 9 is bad\. "):
        first.add([bad(9)])
    first.announce()
    assert "data.train: 4 of 100 rows are put aside (3 broken_image, 1 too_long)" in capsys.readouterr().err
    first.clear()
    first.announce()
    assert capsys.readouterr().err == ""
    first.add([bad(9)])
    assert count_reasons([path]) == {Reason.BROKEN_IMAGE: 1}


def test_shards_are_counted_together(tmp_path: Path) -> None:
    paths = [tmp_path / f"quarantine-0000{number}.jsonl" for number in range(3)]
    quarantine_shard(paths[0], [bad(0)], "prompts", 100, 0.02)
    quarantine_shard(paths[1], [], "prompts", 100, 0.02)
    quarantine_shard(paths[2], [bad(8)], "prompts", 100, 0.02)
    assert [path.exists() for path in paths] == [True, False, True]
    with pytest.raises(DataError, match="prompts: 3 of 100 rows are bad"):
        quarantine_shard(paths[2], [bad(8), bad(9)], "prompts", 100, 0.02)
    # A shard that is made again, after its pictures were mended.
    quarantine_shard(paths[2], [], "prompts", 100, 0.02)
    assert not paths[2].exists()
