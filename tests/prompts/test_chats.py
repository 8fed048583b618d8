"""Chat rows give their turns and pictures, or are bad rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mstar.prompts import RecordPrompts
from mstar.types import Turn
from tests.prompts.record_files import write_lines


def read(tmp_path: Path, picture: Callable[..., bytes], *rows: dict[str, Any]) -> RecordPrompts:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(picture(ord(name), "PNG", 8))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    text = text.replace("DATA", base64.b64encode(picture(1, "PNG", 8)).decode()).replace("FOLDER", str(tmp_path))
    (tmp_path / "chat.jsonl").write_text(text)
    return RecordPrompts(str(tmp_path / "chat.jsonl"), max_bad_share=0.9)


def qwen(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": "R"}]}


TEXT = {"type": "text", "text": "Q?"}
SAYS = {"from": "gpt", "value": "R"}


@pytest.mark.parametrize(
    ("row", "question", "pictures"),
    [
        (qwen({"type": "image", "image": "a.png"}, TEXT), "Q?", 1),
        (qwen({"image": "file://FOLDER/a.png"}, {"text": "Q?"}), "Q?", 1),
        (qwen({"type": "image", "image": "a.png", "text": None}, TEXT | {"image": None}), "Q?", 1),
        (qwen(TEXT, {"type": "image_url", "image_url": {"url": "data:image/png;base64,DATA"}}), "Q?<image>", 1),
        (qwen({"type": "text", "text": "Left"}, {"type": "image", "image": "a.png"}, {"type": "text", "text": "right"},
              {"type": "image", "image": "b.png"}), "Left<image>right<image>", 2),
        (qwen({"image": "a.png", "text": ""}, {"text": "Q?", "image": {"bytes": None, "path": None}}), "Q?", 1),
        (qwen({"type": "image"}, TEXT) | {"images": ["a.png"]}, "Q?", 1),
        ({"messages": [{"role": "user", "content": json.dumps([{"type": "image", "image": "a.png"}, TEXT])},
                       {"role": "assistant", "content": json.dumps([{"type": "text", "text": "R"}])}]}, "Q?", 1),
        ({"messages": [{"role": "user", "content": '[{"type": "circle"}]'}, {"role": "assistant", "content": "R"}]},
         '[{"type": "circle"}]', 0),
        (qwen({"type": "image"}, TEXT) | {"images": [{"bytes": None, "path": "a.png"}]}, "Q?", 1),
        ({"image": "a.png", "conversations": [{"from": "human", "value": "<image>\nQ?"}, SAYS]},
         "Q?", 1),
        ({"image": "a.png", "conversations": [{"from": "human", "value": "Q?"}, SAYS]}, "Q?", 1),
        ({"conversations": [{"from": "user", "value": "Picture 1: <img>a.png</img>\nQ?"},
                            {"from": "assistant", "value": "R"}]}, "Picture 1: <image>\nQ?", 1),
        ({"query": "<img>a.png</img>Q?", "response": "R"}, "Q?", 1),
        (qwen({"type": "image_url", "value": "a.png"}, {"type": "text", "value": "Q?"}), "Q?", 1),
        ({"prompt": [{"role": "user", "content": "Q?"}], "completion": [{"role": "assistant", "content": "R"}]},
         "Q?", 0),
        ({"conversations": json.dumps([{"from": "human", "value": "Q?"}, SAYS])}, "Q?", 0),
        ({"messages": [{"role": "user", "content": "Q?", "images": ["DATA"]},
                       {"role": "assistant", "content": "R", "images": None, "thinking": "", "audio": {"path": None}}]},
         "Q?", 1),
        ({"conversations": [{"from": "human", "value": "<image> Q?", "image": "a.png"}, SAYS]}, "Q?", 1),
        ({"messages": [{"role": "user", "content": [{"type": "image"}, TEXT, {"type": "image"}],
                        "images": ["a.png", "b.png"]}, {"role": "assistant", "content": "R"}]}, "<image>Q?<image>", 2),
        # A video that pictures are of.
        ({"conversations": [{"from": "human", "value": "Q?"}, SAYS], "video": "a.mp4", "image": "a.png"}, "Q?", 1),
        ({"conversations": [{"from": "human", "value": "Q?"}, SAYS], "videos": [], "audio": {"path": ""}}, "Q?", 0),
        ({"texts": [{"user": "Q?", "assistant": "R", "image": "a.png"}]}, "Q?", 1),
    ],
)  # fmt: skip
def test_pictures_in_any_form(
    tmp_path: Path, picture: Callable[..., bytes], row: dict[str, Any], question: str, pictures: int
) -> None:
    [prompt] = read(tmp_path, picture, row)
    assert (prompt.question, prompt.rationale, prompt.turns, len(prompt.images)) == (question, "R", (), pictures)
    assert all(image.load().size == (8, 8) for image in prompt.images)


def test_earlier_turns_stand_before_the_question(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    said = [("system", "Be brief."), ("user", "<image>\nWhat?"), ("assistant", "A die."), ("user", "Now <image>?"),
            ("assistant", "Two.")]  # fmt: skip
    rows = [
        {"images": ["a.png", "b.png"], "messages": [{"role": role, "content": text} for role, text in turns]}
        for turns in (
            said,
            [*said[:1], *said[1:4]],
            [("user", "<image><image>What?"), *said[2:3], ("user", "And now?")],
        )
    ]
    whole, open_end, leading = read(tmp_path, picture, *rows)
    before = (Turn("system", "Be brief."), Turn("user", "<image>\nWhat?"), Turn("assistant", "A die."))
    assert (whole.turns, whole.question, whole.rationale) == (before, "Now <image>?", "Two.")
    assert (open_end.turns, open_end.rationale) == (before, None)
    assert [turn.text for turn in leading.turns] == ["What?", "A die."]
    assert len({whole.id, open_end.id, leading.id}) == 3


def test_pictures_of_a_turn_are_shown_there(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    said = [("user", "Is it red?", "a.png"), ("assistant", "no", None), ("user", "And this?", "b.png")]
    row = {"messages": [{"role": role, "content": text, "image": image} for role, text, image in said]}
    [prompt] = read(tmp_path, picture, row)
    assert ([turn.text for turn in prompt.turns], prompt.question) == (["<image>Is it red?", "no"], "<image>And this?")
    assert [image.uri for image in prompt.images] == ["a.png", "b.png"]


def test_an_answer_may_speak_of_placeholders(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    rows = [
        {
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "In <image>: R"}],
            "images": images,
        }
        for text, images in (("<image>Q?", ["a.png"]), ("Q?", []))
    ]
    for prompt, count in zip(read(tmp_path, picture, *rows), (1, 0), strict=True):
        assert (prompt.question, prompt.rationale, len(prompt.images)) == ("Q?", "In <image>: R", count)


def test_what_the_system_says_may_have_a_column_of_its_own(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    asked, own = {"from": "human", "value": "Q?"}, {"from": "system", "value": "Think."}
    rows = [
        {"conversations": [asked, SAYS], "system": "Be brief."},
        {"conversations": [own, asked, SAYS], "system": "Be brief."},
        {"conversations": [asked, SAYS], "system": ""},
    ]
    brief, thought, none = read(tmp_path, picture, *rows)
    assert [prompt.turns for prompt in (brief, thought, none)] == [
        (Turn("system", "Be brief."),),
        (Turn("system", "Think."),),
        (),
    ]
    assert len({brief.id, thought.id, none.id}) == 3
    # Beside a plain question it may be anything.
    [plain] = read(tmp_path, picture, {"question": "Q?", "system": "Linux"})
    assert plain.turns == ()
    [chat] = read(tmp_path, picture, {"question": [asked, SAYS], "system": "Be brief."})
    assert chat.turns == (Turn("system", "Be brief."),)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (qwen({"type": "image"}, TEXT), "picture_count"),
        (qwen({"type": "image", "image": "a.png"}, TEXT) | {"images": ["b.png"]}, "picture_count"),
        (
            {
                "messages": [
                    {"role": "user", "content": "Draw it."},
                    {"role": "assistant", "content": [TEXT, {"type": "image", "image": "a.png"}]},
                ]
            },
            "picture_count",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Draw it."},
                    {"role": "assistant", "content": "Here: <image>"},
                ],
                "images": ["a.png"],
            },
            "picture_count",
        ),
        (qwen({"type": "image", "image": "gone.png"}, TEXT), "missing_image"),
        (qwen({"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, TEXT), "missing_image"),
        (qwen({"type": "video", "video": "a.mp4"}, TEXT), "wrong_type"),
        (qwen({"image": "a.png", "text": "Q?"}), "wrong_type"),
        ({"messages": [{"role": "user", "content": "<video>Q?"}], "videos": ["a.mp4"]}, "wrong_type"),
        (
            {"messages": [{"role": "user", "content": "<VIDEO>Q?"}], "videos": ["a.mp4"], "images": ["a.png"]},
            "wrong_type",
        ),
        (
            {
                "messages": [{"role": "user", "content": "<|vision_start|><|video_pad|><|vision_end|>Q?"}],
                "videos": ["a.mp4"],
                "images": ["a.png"],
            },
            "wrong_type",
        ),
        (qwen(TEXT) | {"video": "a.mp4"}, "wrong_type"),
        ({"messages": [{"role": "tool", "content": "4"}, {"role": "user", "content": "Q?"}]}, "wrong_type"),
        ({"messages": [{"role": "assistant", "content": "Hello"}]}, "empty_question"),
        ({"messages": "Q?"}, "wrong_type"),
        ({"messages": [{"role": "user", "content": "Q?", "video": "a.mp4"}]}, "wrong_type"),
        (
            {
                "messages": [
                    {"role": "user", "content": "Q?"},
                    {"role": "assistant", "content": "R", "reasoning_content": "Because"},
                ]
            },
            "wrong_type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, TEXT], "image": "b.png"}]},
            "picture_count",
        ),
        ({"messages": [{"role": "user", "content": 7}]}, "wrong_type"),
    ],
)
def test_what_cannot_be_shown_is_a_bad_row(
    tmp_path: Path, picture: Callable[..., bytes], row: dict[str, Any], reason: str
) -> None:
    source = read(tmp_path, picture, qwen(TEXT), row)
    assert source.facts().bad == {reason: 1}
    assert [prompt.question for prompt in source] == ["Q?"]


def test_an_address_in_a_question_is_a_bad_row(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    rows = [{"query": f"<img>{place}</img>Q?"} for place in ("https://x.org/a.png", "a.png")]
    assert read(tmp_path, picture, *rows).facts().bad == {"missing_image": 1}


def test_the_model_sees_what_the_row_said(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    from mstar.models.backbone import load_renderer

    rows = [
        {"messages": [{"role": "system", "content": "Be brief."},
                      {"role": "user", "content": [{"type": "text", "text": "Left "},
                                                   {"type": "image", "image": "a.png"},
                                                   {"type": "text", "text": " right "},
                                                   {"type": "image", "image": "b.png"}]}]},
        {"messages": [{"role": "user", "content": "Left or right?"}], "images": ["a.png", "b.png"]},
    ]  # fmt: skip
    placed, before = read(tmp_path, picture, *rows)
    renderer = load_renderer("mstar/tiny-idefics3")
    mark = renderer.processor.image_token
    text = renderer.render_prompt(placed)
    assert text.index("Be brief.") < text.index("Left ") < text.index(mark) < text.index(" right ") < text.rindex(mark)
    assert mark * 2 + "Left or right?" in renderer.render_prompt(before)
    assert (placed.question.count("<image>"), before.question.count("<image>")) == (2, 0)


def test_turns_in_pairs(tmp_path: Path) -> None:
    """The Cauldron and FineVision."""
    row = {"images": [], "texts": [{"user": "One?", "assistant": "Yes."}, {"user": "Two?", "assistant": "No."}]}
    [prompt] = RecordPrompts(write_lines(tmp_path / "data.jsonl", [row]))
    assert prompt.turns == (Turn("user", "One?"), Turn("assistant", "Yes."))
    assert (prompt.question, prompt.rationale) == ("Two?", "No.")
