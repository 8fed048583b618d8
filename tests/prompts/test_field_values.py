"""The values of a row's fields, in the forms in which data sets have them."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mstar.prompts.field_values import (
    clean_path,
    fields_of,
    is_filled,
    look_up,
    parse,
    parse_texts,
    read_image,
    read_images,
    read_precision,
    read_text,
    read_texts,
    read_tolerance,
    take_tags,
)
from mstar.prompts.quarantine import RowError
from mstar.types import PICTURE, Tolerance


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("meta.answer", "B"),
        ("turns.1.value", "four"),
        ("a.b", "whole name"),
        ("turns.7.value", None),
        ("meta.answer.more", None),
        ("missing", None),
    ],
)
def test_a_field_within_a_column(name: str, value: str | None) -> None:
    row = {
        # Text in a column of CSV may be an object.
        "meta": '{"answer": "B"}',
        "turns": [{"value": "two and two?"}, {"value": "four"}],
        "a.b": "whole name",
        "missing": math.nan,
    }
    assert look_up(row, name) == value


def test_lists_that_are_written_as_text() -> None:
    assert parse("['5', 'five']") == parse('["5", "five"]') == ["5", "five"]
    assert parse("[not a list") == "[not a list"
    assert parse_texts("['5', 'five']") == ["5", "five"]
    # Numbers are one answer that is a list.
    assert parse_texts("[2014, 2016]") == "[2014, 2016]"


def test_cells_as_text() -> None:
    assert [read_text(value, "answer") for value in (None, " B ", 4, 0.1, True)] == ["", "B", "4", "0.1", "True"]
    assert read_texts(["B", "", None, {"text": "C"}], "choices") == ("B", "C")
    with pytest.raises(RowError, match="the column 'answer' holds a bytes, not text"):
        read_text(b"B", "answer")


def test_numbers_about_an_answer() -> None:
    assert [read_precision(value, "") for value in (None, "", "2", 2.0)] == [None, None, 2, 2]
    assert read_tolerance('{"relative": 0.05, "absolute": null}', "") == Tolerance(relative=0.05)
    for value in (-1, 1.5, "two"):
        with pytest.raises(RowError, match="no number of decimals"):
            read_precision(value, "")
    for limits in ({"relative": -0.1}, {"percent": 5}, "5"):
        with pytest.raises(RowError, match="no object with 'relative' or 'absolute'"):
            read_tolerance(limits, "")


@pytest.mark.parametrize(
    "value",
    [
        png(),
        {"bytes": png(), "path": None},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png()).decode()}"}},
        base64.b64encode(png()).decode(),
    ],
)
def test_bytes_of_a_picture_in_each_wrapping(value: Any) -> None:
    assert read_image(value, "image") == png()


def test_paths_and_what_is_no_picture() -> None:
    assert read_image("file:///data/a%20b.png", "image") == "/data/a b.png"
    assert [read_image(value, "image") for value in (None, "", {"bytes": None, "path": None})] == [None] * 3
    for value, reason in ((b"", "no bytes"), ("https://a.b/c.png", "are not fetched"), (7, "holds a int")):
        with pytest.raises(RowError, match=reason):
            read_image(value, "image")
    with pytest.raises(RowError, match="damaged"):
        read_image("data:image/png;base64,%%%", "image")


def test_pictures_of_a_row_by_columns_and_by_a_template() -> None:
    row = {"id": 42, "split": "train", "image": ["a.png", None, "b.png"], "none": ""}
    assert read_images(row, ["image"]) == ["a.png", "b.png"]
    assert read_images(row, ["{split}/{id:012}.jpg"]) == ["train/000000000042.jpg"]
    assert read_images(row, ["{none}/{id}.jpg"]) == []
    assert fields_of("{split}/{id:012}.jpg") == ["split", "id"]


def test_tags_of_qwen_name_their_pictures() -> None:
    assert take_tags("Picture 1: <img>a.png</img> How many?", "question") == (
        f"Picture 1: {PICTURE} How many?",
        ["a.png"],
    )


def test_paths_are_relative_to_the_image_folder_also_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert clean_path("./a/b.png", "images") == "a/b.png"
    for root in ("real", "link"):
        assert clean_path(str(tmp_path / root / "a.png"), str(tmp_path / root)) == "a.png"
    assert clean_path(str(tmp_path / "real" / "a.png"), str(tmp_path / "link")) == "a.png"


def test_a_cell_of_nothing_but_nothing_is_not_filled() -> None:
    assert not any(map(is_filled, (None, "", math.nan, [], [None, ""], {"a": [math.nan]})))
    assert is_filled({"a": ["", "x"]})
