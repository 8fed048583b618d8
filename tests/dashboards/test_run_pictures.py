"""Pictures inside a run's data are found through the sources of its configuration, and through nothing else."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from mstar.dashboards.run_config import SavedConfig
from mstar.dashboards.run_pictures import RunPictures
from mstar.dashboards.sample_browser import browser_payload, show_prompt
from mstar.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")

RECORDS = "mstar.prompts.RecordPrompts"


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """A source of two prompts, the second with two pictures: red, and then green and blue."""
    rows = []
    for name, colours in (("a", ["red"]), ("b#1", ["green", "blue"])):
        pictures = []
        for colour in colours:
            Image.new("RGB", (8, 8), colour).save(buffer := io.BytesIO(), "PNG")
            pictures.append(buffer.getvalue())
        rows.append({"id": name, "question": f"What is {name}?", "answer": "1", "images": pictures})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    own = {"path": str(tmp_path / "rows.parquet"), "quarantine": str(tmp_path / "bad.jsonl")}
    return {"class_path": RECORDS, "init_args": own}


def stored(root: Path, settings: dict[str, Any]) -> RunPictures:
    return RunPictures((SavedConfig("config.yaml", yaml.safe_dump(settings), root),))


@pytest.mark.parametrize("within", ["source", "part", "sources", "relative"])
def test_a_picture_is_found_by_its_prompt_and_number(tmp_path: Path, data: dict[str, Any], within: str) -> None:
    settings: dict[str, Any] = {"trainer": {"default_root_dir": "runs/one"}}
    match within:
        case "part":
            part = {"class_path": "mstar.prompts.PromptPart", "init_args": {"source": data, "start": 1}}
            settings["data"] = {"init_args": {"train": data, "validation": part}}
        case "sources":
            settings["data"] = {"init_args": {"sources": {"dataset": data, "train": {"start": 0}}}}
        case _:
            data["init_args"]["path"] = "*.parquet" if within == "relative" else data["init_args"]["path"]
            settings["prompts"] = data
    pictures = stored(tmp_path / "runs" / "one", settings)
    for prompt, name, colour in (
        ("a", "a#0", (255, 0, 0)), ("b#1", "b#1#0", (0, 128, 0)), ("b#1", "b#1#1", (0, 0, 255)),
    ):  # fmt: skip
        assert pictures.find(name, prompt).getpixel((0, 0)) == colour
    for prompt, name in (("a", "a#1"), ("c", "c#0"), (None, "a#0")):
        with pytest.raises(DataError, match=r"is not found|does not exist"):
            pictures.find(name, prompt)
    assert not (tmp_path / "bad.jsonl").exists()


def test_of_two_sources_with_one_id_the_one_that_asks_the_same_has_the_picture(
    tmp_path: Path, data: dict[str, Any]
) -> None:
    Image.new("RGB", (8, 8), "blue").save(buffer := io.BytesIO(), "PNG")
    row = {"id": "a", "question": "Which\u200b colour?", "answer": "blue", "images": [buffer.getvalue()]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "other.parquet")
    other = {"class_path": RECORDS, "init_args": {"path": str(tmp_path / "other.parquet")}}
    pictures = stored(tmp_path, {"data": {"init_args": {"train": data, "unlabelled": other}}})
    assert pictures.find("a#0", "a", "What is a?").getpixel((0, 0)) == (255, 0, 0)
    assert pictures.find("a#0", "a", row["question"]).getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(DataError, match="is not found"):
        pictures.find("a#0", "a", "What else?")
    page = browser_payload("", [show_prompt({**row, "prompt_id": "a", "images": ["a#0"]}, ())], pictures)
    assert page["prompts"][0]["question"] == r"Which\u200b colour?"
    shown = base64.b64decode(page["images"][0]["source"].partition(",")[2])
    assert Image.open(io.BytesIO(shown)).getpixel((0, 0)) == (0, 0, 255)


def test_a_chat_is_shown_from_its_first_turn(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.png")
    said = [("user", "<image>Which colour?"), ("assistant", "Red."), ("user", "And now?"), ("assistant", "Still red.")]
    chat = {"id": "a", "messages": [{"role": role, "content": text} for role, text in said], "image": "1.png"}
    (tmp_path / "d.jsonl").write_text(json.dumps(chat) + "\n")
    source = {"class_path": RECORDS, "init_args": {"path": str(tmp_path / "d.jsonl")}}
    row = show_prompt({"prompt_id": "a", "question": "And now?", "images": ["1.png"]}, ())
    page = browser_payload("", [row], stored(tmp_path, {"data": {"init_args": {"train": source}}}))
    assert page["prompts"][0]["question"] == "user: Which colour?\n\nassistant: Red.\n\nuser: And now?"
    # Pictures that are given are looked for in no data.
    given = browser_payload("", [row], RunPictures((), str(tmp_path)))
    assert given["prompts"][0]["question"] == "And now?"


def test_sources_may_have_files_of_one_name(tmp_path: Path) -> None:
    sources = []
    for name, colour in (("one", "red"), ("two", "blue")):
        (tmp_path / name).mkdir()
        for file, shown in (("1.png", colour), ("same.png", "green")):
            Image.new("RGB", (8, 8), shown).save(tmp_path / name / file)
        row = {"id": name, "question": f"{name}?", "answer": "1", "image": ["1.png", "same.png"]}
        (tmp_path / name / "d.jsonl").write_text(json.dumps(row) + "\n")
        own = {"path": str(tmp_path / name / "d.jsonl")}
        sources.append({"class_path": RECORDS, "init_args": own})
    mixed = {"class_path": "mstar.prompts.MixedPrompts", "init_args": {"sources": sources}}
    pictures = stored(tmp_path, {"data": {"init_args": {"train": mixed}}})
    assert pictures.find("1.png", "one").getpixel((0, 0)) == (255, 0, 0)
    assert pictures.find("1.png", "two").getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(DataError, match=r"'1\.png' .*does not exist"):
        pictures.find("1.png", "gone")
    named = RunPictures((), str(tmp_path / "two"))
    assert named.find("1.png", "one").getpixel((0, 0)) == (0, 0, 255)
    asked = [show_prompt({"prompt_id": name, "images": ["1.png", "same.png"]}, ()) for name in ("one", "two", "one")]
    page = browser_payload("", asked, pictures)
    # Each picture once: the two of one name, and the one that both have.
    assert [prompt["images"] for prompt in page["prompts"]] == [[0, 1], [2, 1], [0, 1]]
    assert len(page["images"]) == 3


def test_files_of_a_prompt_that_no_source_has_are_those_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    assert RunPictures().find("1.png", "p").getpixel((0, 0)) == (255, 0, 0)


def test_nothing_else_is_run_and_data_that_is_gone_is_no_error(tmp_path: Path, data: dict[str, Any]) -> None:
    (tmp_path / "evil.py").write_text("raise AssertionError('it was imported')")
    other = {"class_path": "evil.Prompts", "init_args": {}}
    mixed = {"class_path": "mstar.prompts.MixedPrompts", "init_args": {"sources": [data, other]}}
    gone = {"class_path": RECORDS, "init_args": {"path": str(tmp_path / "gone.parquet")}}
    wrong = {"class_path": RECORDS, "init_args": {"path": 3}}
    for settings, why in (
        (other, "as far as its classes are mstar's own"),
        (mixed, "the class evil.Prompts, which is not one of mstar's own; give"),
        (gone, "gone.parquet"),
        (wrong, "cannot be opened"),
        ({"class_path": "mstar.prompts.Nothing"}, "not one of mstar's own; give"),
    ):
        pictures = stored(tmp_path, {"prompts": settings})
        with pytest.raises(DataError, match=rf"(?s)does not exist.*{why}.* the folder of its pictures as --image_root"):
            pictures.find("a.png", "a")
