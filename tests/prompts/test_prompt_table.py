"""What becomes one prompt of a table, and by which id."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar.errors import StorageError
from mstar.prompts import FieldMap, RecordPrompts
from tests.prompts.record_files import write_lines

TEXT = FieldMap(question="question", answer="answer")


def test_data_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    write_lines(path, [{"question": "old", "answer": "1"}])
    assert [prompt.question for prompt in RecordPrompts(str(path), TEXT)] == ["old"]
    write_lines(path, [{"question": "newer", "answer": "1"}])
    assert [prompt.question for prompt in RecordPrompts(str(path), TEXT)] == ["newer"]


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet"])
def test_a_cache_that_cannot_be_written_says_how_it_is_put_elsewhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("MSTAR_CACHE", str(tmp_path / "home/mstar"))
    rows = [{"question": "a", "answer": "1"}]
    path = tmp_path / name
    write_lines(path, rows) if path.suffix == ".jsonl" else pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(StorageError, match=r"home/mstar/.*Not a directory.*set MSTAR_CACHE"):
        RecordPrompts(str(path), TEXT)


def test_the_table_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(os.readlink(f"/proc/self/fd/{number}"))))
    named: list[list[str]] = []
    rename = Path.rename

    def note(path: Path, target: Path) -> Path:
        if path.is_dir():
            named.append([file.name for file in synced if file.parent == path])
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", note)
    rows = [{"question": "a", "answer": answer} for answer in ("1", "2")] + [{"question": "b", "answer": "1"}]
    assert len(RecordPrompts(write_lines(tmp_path / "d.jsonl", rows), TEXT, max_bad_share=1.0)) == 1
    [files] = named
    assert "prompts.arrow" in files


def test_ids_follow_from_the_content_and_not_from_the_order(tmp_path: Path) -> None:
    rows = [{"question": f"Q{i}", "answer": str(i)} for i in range(5)]
    there = RecordPrompts(write_lines(tmp_path / "a.jsonl", rows))
    back = RecordPrompts(write_lines(tmp_path / "b.jsonl", rows[::-1]))
    assert {p.question: p.id for p in there} == {p.question: p.id for p in back}
    assert len({p.id for p in there}) == 5


def test_repetitions_count_once_and_contradictions_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [("a", "1"), ("a", "1"), ("b", "Yes"), ("b", "yes "), ("c", "1"), ("c", "1"), ("c", "2"), ("d", "4")]
    rows = [{"question": question, "answer": answer} for question, answer in answers]
    put_aside = tmp_path / "bad.jsonl"
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows), max_bad_share=0.0, quarantine=str(put_aside))
    assert [(p.question, p.answer) for p in source] == [("a", "1"), ("b", "Yes"), ("d", "4")]
    [group] = map(json.loads, put_aside.read_text().splitlines())
    assert (group["row"], group["reason"]) == (4, "conflicting_answers")
    assert group["content"]["answers"] == {"1": 2, "2": 1}
    said = capsys.readouterr().err
    assert "1 questions with contradictory answers" in said
    assert "2 of 8 rows repeat" in said


def test_several_responses_to_one_question_are_several_prompts(tmp_path: Path) -> None:
    rows = [{"question": "Q", "answer": "1", "response": text} for text in ("so 1", "thus 1", "so 1")]
    assert [p.rationale for p in RecordPrompts(write_lines(tmp_path / "d.jsonl", rows))] == ["so 1", "thus 1"]


def test_half_a_surrogate_pair_is_put_aside(tmp_path: Path) -> None:
    """Where the id is made of the text, it ended the reading."""
    lines = [json.dumps({"question": f"What is {i}?", "answer": str(i)}) for i in range(10)]
    lines[2] = '{"question": "\\ud83d What?", "answer": "2"}'
    lines[4] = '{"question": "What?", "answer": "\\udc00"}'
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    source = RecordPrompts(str(tmp_path / "data.jsonl"), quarantine=str(tmp_path / "q"))
    assert [prompt.answer for prompt in source] == [str(i) for i in range(10) if i not in (2, 4)]
    rows = [json.loads(line) for line in (tmp_path / "q").read_text().splitlines()]
    assert [(row["row"], row["reason"]) for row in rows] == [(2, "bad_text"), (4, "bad_text")]


def test_an_id_that_repeats_with_something_else_gets_one_of_its_own(tmp_path: Path) -> None:
    rows = [{"id": "7", "question": question, "answer": "1"} for question in ("a", "b", "a")]
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows))
    assert [(prompt.id.split("~")[0], prompt.question) for prompt in source] == [("7", "a"), ("7", "b")]
    assert [source.index_of(prompt.id) for prompt in source] == [0, 1]
    named = RecordPrompts(str(tmp_path / "d.jsonl"), FieldMap(question="question", id="id"), max_bad_share=1.0)
    assert named.facts().bad == {"duplicate_id": 2}
