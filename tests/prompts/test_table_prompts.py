"""Rows of a table as prompts, with pictures that are files or stand in the table."""

from __future__ import annotations

import base64
import json
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mstar.prompts import PixelLimits, RecordPrompts, table_prompts
from mstar.prompts.images import decode_image
from mstar.prompts.quarantine import Reason
from mstar.prompts.table_prompts import TablePrompts
from mstar.types import Prompt
from tests.prompts.record_files import sizes, write_lines

Picture = Callable[..., bytes]


@pytest.mark.parametrize(
    "form", ["base64", "data_uri", "parquet_bytes", "parquet_pil", "parquet_pil_list", "saved_pil", "saved_pil_list"]
)
def test_pictures_in_the_data_itself(tmp_path: Path, picture: Picture, form: str) -> None:
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageFeature

    contents = [picture(i, "PNG", 8 + i) for i in range(3)]
    # The first row is bad, so that a row's number in the table is not the one in the data.
    questions = ["", "one", "two"]
    if form in ("base64", "data_uri"):
        prefix = "data:image/png;base64," if form == "data_uri" else ""
        texts = [prefix + base64.b64encode(content).decode() for content in contents]
        rows = [{"question": q, "image": text} for q, text in zip(questions, texts, strict=True)]
        path = write_lines(tmp_path / "data.jsonl", rows)
    else:
        path = str(tmp_path / "data.parquet")
        images: list[Any] = list(contents)
        kind: Any = Value("binary")
        if "pil" in form:
            images, kind = [{"bytes": content, "path": None} for content in contents], ImageFeature()
        if form.endswith("list"):
            images, kind = [[image] for image in images], List(ImageFeature())
        features = Features({"question": Value("string"), "image": kind})
        data = Dataset.from_dict({"question": questions, "image": images}, features=features)
        if form.startswith("parquet"):
            data.to_parquet(path)
        else:
            data.save_to_disk(path := str(tmp_path / "saved"))
    source = RecordPrompts(path, check_images="decode", max_bad_share=0.5, image_root=str(tmp_path))
    assert [prompt.question for prompt in source] == ["one", "two"]
    assert [sizes(prompt) for prompt in source] == [[(9, 9)], [(10, 10)]]
    [image] = source[1].images
    assert image.uri == f"{source[1].id}#0"
    again: Prompt = pickle.loads(pickle.dumps(source[1]))  # noqa: S301 - what a data loader does
    assert again.images[0].load().tobytes() == decode_image(contents[2], "").tobytes()
    assert len(pickle.dumps(source[1])) < 20_000


def test_the_limits_hold_for_files_and_for_bytes(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "a.png").write_bytes(picture(1, "PNG", 20))
    text = base64.b64encode(picture(2, "PNG", 20)).decode()
    rows = [{"question": "file", "image": "a.png"}, {"question": "bytes", "image": text}]
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows), pixels=PixelLimits(maximum=100))
    assert [sizes(prompt) for prompt in source] == [[(10, 10)], [(10, 10)]]


def test_long_base64_is_no_path(tmp_path: Path, picture: Picture) -> None:
    text = base64.b64encode(picture(1, "TIFF", 64)).decode()
    rows = [{"question": f"Q{i}", "image": image} for i, image in enumerate((text, "a.png" * 1000))]
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows), max_bad_share=0.5)
    assert [sizes(prompt) for prompt in source] == [[(64, 64)]]
    [bad] = source.facts().examples
    assert (bad.reason, len(bad.detail) < 200) == (Reason.BROKEN_IMAGE, True)


def test_a_mended_picture_is_used_without_reading_the_rows_again(tmp_path: Path, picture: Picture) -> None:
    rows = [{"question": f"Q{i}", "image": f"{i}.png"} for i in range(2)]
    (tmp_path / "0.png").write_bytes(picture())
    path = write_lines(tmp_path / "data.jsonl", rows)
    assert len(RecordPrompts(path, max_bad_share=0.5)) == 1
    (tmp_path / "1.png").write_bytes(picture(1))
    assert len(RecordPrompts(path, max_bad_share=0.5)) == 2


def test_the_pictures_of_a_large_table_are_looked_at_for_other_processes_too(
    tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": f"Q{i}", "image": f"{i}.png"} for i in range(3)]
    for number in (0, 2):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    path = write_lines(tmp_path / "data.jsonl", rows)
    found: list[Any] = []

    def once(file: Path, work: Callable[[], list[Any]]) -> list[Any]:
        assert (file.parent / "manifest.json").is_file()
        found.append(json.loads(json.dumps(work())))
        return found[-1] if len(found) == 1 else [[0, "broken_image", "what another process found"]]

    monkeypatch.setattr(table_prompts, "do_once", once)
    assert len(RecordPrompts(path, max_bad_share=0.5)) == 2
    assert found == []
    monkeypatch.setattr(table_prompts, "_MANY", 3)
    assert [p.question for p in RecordPrompts(path, max_bad_share=0.5)] == ["Q0", "Q2"]
    assert [fault[:2] for fault in found[0]] == [[1, "missing_image"]]
    assert [p.question for p in RecordPrompts(path, max_bad_share=0.5)] == ["Q1", "Q2"]
    assert len(RecordPrompts(path, check_images="none")) == 3
    assert len(found) == 2


def test_size_and_hidden_answers(tmp_path: Path) -> None:
    rows = [{"question": f"Q{i}", "answer": str(i)} for i in range(5)]
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows), size=2, hide_answers=True)
    assert [(p.question, p.answer) for p in source] == [("Q0", None), ("Q1", None)]
    assert source.index_of(RecordPrompts(str(tmp_path / "d.jsonl"))[3].id) is None
    # That several options are right is told, as in a column, or no response could name them.
    several = [{"question": "Which?", "options": ["2", "3", "4"], "answer": "A, C"}]
    [hidden] = RecordPrompts(write_lines(tmp_path / "e.jsonl", several), hide_answers=True)
    assert (hidden.answer, hidden.answer_type.value) == (None, "multi_select")


def test_a_source_goes_to_another_process(tmp_path: Path) -> None:
    rows = [{"question": f"Q{i}", "answer": str(i)} for i in range(3000)]
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows))
    again: TablePrompts = pickle.loads(pickle.dumps(source))  # noqa: S301 - what a data loader does
    assert list(again) == list(source)
    assert [source[i] for i in (0, 1500, 2999)] == [list(source)[i] for i in (0, 1500, 2999)]
    assert all(again.index_of(source[i].id) == i for i in range(0, 3000, 299))


def test_a_cache_that_somebody_else_made_is_enough(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A team shares one; which pictures can be used, and whose columns they are, is each user's own affair."""
    rows = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(4)] + [{"question": "", "answer": "1"}]
    # Not pytest's folder, which no other user may enter.
    with tempfile.TemporaryDirectory() as name:
        root, cache = Path(name), Path(name, "cache")
        root.chmod(0o755)
        monkeypatch.setenv("MSTAR_CACHE", str(cache))
        texts = write_lines(root / "texts.jsonl", rows)
        pictured = write_lines(root / "pictured.jsonl", [row | {"image": "a.png"} for row in rows[:1]] + rows)

        def open_both() -> list[Path]:
            table_prompts._OPEN.clear()
            sources = [RecordPrompts(path, max_bad_share=0.5) for path in (texts, pictured)]
            assert [len(source) for source in sources] == [4, 4]
            return [source.facts().quarantine for source in sources]

        made = open_both()
        assert made[1].name.startswith("bad_rows-")
        made[1].unlink()
        folders = [path for path in cache.rglob("*") if path.is_dir()]
        for folder in folders:
            folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            again = open_both()
        finally:
            os.seteuid(user)
            for folder in folders:
                folder.chmod(0o755)
        assert [path.name for path in again] == ["quarantine.jsonl"] * 2
        assert "set quarantine to a file" in caplog.text
