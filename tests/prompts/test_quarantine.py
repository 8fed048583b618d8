"""What is put aside, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mstar.errors import DataError
from mstar.prompts.images import FileImage
from mstar.prompts.quarantine import BadRow, Reason, announce, check_share, drop_unreadable, write_quarantine
from mstar.types import Prompt


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
    check_share("D", counts, 100, 0.05, Path("bad.jsonl"))
    with pytest.raises(DataError, match=r"D: 5 of 100 rows are bad \(5\.0%: 5 no_answer\).*max_bad_share 0\.04"):
        check_share("D", counts, 100, 0.04, Path("bad.jsonl"))


def test_only_the_first_process_speaks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    announce("D", {Reason.NO_ANSWER: 5}, 10, 2, Path("bad.jsonl"))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("LOCAL_RANK", "0")
    announce("D", {Reason.NO_ANSWER: 5}, 10, 2, Path("bad.jsonl"))
    assert "5 of 10 rows are put aside (5 no_answer)" in capsys.readouterr().err
    announce("D", {}, 10, 0, Path("bad.jsonl"))
    assert capsys.readouterr().err == ""


def test_prompts_with_unreadable_pictures_are_dropped_when_used(
    tmp_path: Path, picture: Callable[..., bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / "bad.png").write_bytes(picture()[:60])
    good, bad = FileImage("good.png", str(tmp_path)), FileImage("bad.png", str(tmp_path))
    prompts = [Prompt("a", "Q", (good,)), Prompt("b", "Q", (good, bad)), Prompt("c", "Q")]
    put_aside = tmp_path / "new" / "bad.jsonl"
    for number in (1, 2):
        assert [p.id for p in drop_unreadable(prompts, put_aside)] == ["a", "c"]
        lines = [json.loads(line) for line in put_aside.read_text().splitlines()]
        assert [(line["reason"], line["content"]["id"]) for line in lines] == [("broken_image", "b")] * number
    assert "1 of 3" in capsys.readouterr().err
