from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from mstar.dashboards.samples import draw_sample, pick_responses, sample_lines
from mstar.errors import DataError
from mstar.storage import PromptResponses
from mstar.types import Fate

RED, GREEN = (255, 0, 0), (0, 255, 0)


def texts(group: PromptResponses) -> list[str]:
    return [text for text, _, _ in sample_lines(group)]


def with_picture(group: PromptResponses, picture: Image.Image | None) -> PromptResponses:
    """The same, with another picture or one that cannot be read."""

    class Picture:
        uri = "picture.png"

        def load(self) -> Image.Image:
            if picture is None:
                raise DataError("picture.png does not exist.")
            return picture

    return dataclasses.replace(group, prompt=dataclasses.replace(group.prompt, images=(Picture(),)))


def test_a_sample_shows_question_verdicts_scores_and_fate(make_group: Any) -> None:
    group = make_group(0)
    lines = list(sample_lines(group))
    assert lines[0][::2] == (group.prompt.question, "bold")
    assert lines[1][0] == f"gold answer: {group.prompt.answer}"
    voted = list(sample_lines(dataclasses.replace(group, voted=True)))
    assert voted[1][0] == f"voted answer: {group.prompt.answer}"
    right = next(line for line in lines if line[0] == "✓ right · kept · process reward 0.10")
    wrong = next(line for line in lines if line[0] == "\N{MULTIPLICATION X} wrong · process reward 0.10")
    assert right[1] != wrong[1]
    assert "0.10  " + group.prompt.reference_responses[0].split("\n")[0] in texts(group)
    assert lines[-1][0] == "(2 of 3 responses shown)"


def test_hidden_characters_are_shown_as_codes_and_nothing_is_markup(make_group: Any, hostile: str) -> None:
    group = make_group(0, hostile, "中文 $x^$ 9")
    shown = "\n".join(texts(group))
    assert "$\\frac{1$" in shown
    assert "\\u0000" in shown
    assert "\\u202egnp.exe" in shown
    assert "\x00" not in shown
    assert "\u202e" not in shown
    page = draw_sample(group, max_responses=9)
    assert page.mode == "RGB"
    assert page.width == 1100
    assert page.height > draw_sample(group, max_responses=1).height


def test_every_line_is_drawn_in_its_colour_below_the_one_before(make_group: Any) -> None:
    group = make_group(0)
    page = np.asarray(draw_sample(group))
    for number, (text, colour, _) in enumerate(sample_lines(group), start=1):
        row = page[number * 19 : (number + 1) * 19, 330:]
        assert (row != 255).any() == bool(text), text
        inked = (row == tuple(bytes.fromhex(colour[1:]))).all(axis=-1)
        assert inked.any() == bool(text), text


def test_small_pictures_are_enlarged_without_blur_and_keep_their_shape(make_group: Any) -> None:
    picture = Image.new("RGB", (20, 10), RED)
    picture.paste(GREEN, (10, 0, 20, 10))
    page = draw_sample(with_picture(make_group(0), picture))
    part = page.crop((22, 19, 22 + 280, 19 + 140))
    assert {colour for _, colour in part.getcolors()} == {RED, GREEN}
    assert part.getpixel((139, 139)) == RED
    assert part.getpixel((140, 0)) == GREEN
    assert page.getpixel((22, 19 + 140)) == (255, 255, 255)


def test_large_pictures_are_made_smaller(make_group: Any) -> None:
    page = draw_sample(with_picture(make_group(0), Image.new("RGB", (500, 1000), RED)))
    assert page.crop((22, 19, 22 + 140, 19 + 280)).getcolors() == [(140 * 280, RED)]
    assert page.getpixel((22 + 140, 19)) == (255, 255, 255)


def test_an_unreadable_picture_does_not_stop_the_sample(make_group: Any) -> None:
    group = make_group(0)
    missing = np.asarray(draw_sample(with_picture(group, None)))
    none = np.asarray(draw_sample(dataclasses.replace(group, prompt=dataclasses.replace(group.prompt, images=()))))
    # Both say why there is no picture; that one could not be read is told in red.
    for page, red in ((missing, True), (none, False)):
        place = page[19:60, 22:330]
        assert (place != 255).any()
        assert ((place == tuple(bytes.fromhex("b3402a"))).all(axis=-1)).any() == red


def test_picked_responses_are_distinct_and_include_kept_and_wrong_ones(make_group: Any) -> None:
    group = make_group(0, "Answer: 1", "Answer: 2")
    picked = pick_responses(group, 3)
    assert [s.fate for s in picked] == [Fate.KEPT, Fate.WRONG, Fate.WRONG]
    assert [s.response.sample_index for s in picked] == [0, 2, 3]
    assert len(pick_responses(group, 9)) == 4
