"""A prompt with its scored responses as one picture, for TensorBoard and its like.

Drawn with Pillow: a page of text takes matplotlib 17 times as long, and every iteration draws four of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mstar.dashboards.wording import describe_outcome, score_level, scored_steps, visible
from mstar.errors import DataError
from mstar.storage import PromptResponses
from mstar.types import Fate, ScoredResponse

_INK: Final = "#1d2327"
_MUTED: Final = "#6b7280"
_RIGHT: Final = "#0b6e69"
_WRONG: Final = "#b3402a"
_LEVELS: Final = ("#b3402a", "#b9652a", "#8f7a1c", "#4f7d3a", "#0b6e69")
_WRAP: Final = 84
_LINES_PER_TEXT: Final = 14
# In pixels, as are the places below.
_WIDTH: Final = 1100
_LINE: Final = 19
_LEAST_HEIGHT: Final = 320
_FONT: Final = 12.5
_PICTURE: Final = (22, _LINE)
_PICTURE_SIDE: Final = 280
_TEXT_LEFT: Final = 330
# Pictures below this size are enlarged without blur.
_SMALL_PICTURE: Final = 256


def pick_responses(group: PromptResponses, limit: int) -> tuple[ScoredResponse, ...]:
    """Picks the responses worth showing: up to two that were kept, then one that is not right, then the others.

    Identical texts are shown once.
    """
    # Kept responses come first, so that the copy that was kept stands for its duplicates.
    ordered = sorted(group.responses, key=lambda s: (s.fate is not Fate.KEPT, s.response.sample_index))
    by_text: dict[str, ScoredResponse] = {}
    for scored in ordered:
        by_text.setdefault(scored.response.text, scored)
    distinct = list(by_text.values())
    kept = [s for s in distinct if s.fate is Fate.KEPT][:2]
    wrong = [s for s in distinct if not s.verdict.correct][:1]
    first = [*kept, *(s for s in wrong if s not in kept)]
    return (*first, *(s for s in distinct if s not in first))[:limit]


def draw_sample(group: PromptResponses, *, max_responses: int = 4) -> Image.Image:
    """Draws one prompt: its first picture on the left, question, gold answer and scored responses on the right.

    A character that the font has no glyph for is drawn as a box, which is what a reader needs to know.
    """
    lines = list(sample_lines(group, max_responses))
    page = Image.new("RGB", (_WIDTH, max(_LEAST_HEIGHT, _LINE * (len(lines) + 2))), "white")
    draw = ImageDraw.Draw(page)
    picture = _find_picture(group)
    if isinstance(picture, str):
        draw.multiline_text(_PICTURE, picture, fill=_MUTED if not group.prompt.images else _WRONG, font=_font("normal"))
    else:
        page.paste(_fit(picture), _PICTURE)
    for number, (text, colour, weight) in enumerate(lines, start=1):
        draw.text((_TEXT_LEFT, number * _LINE), text.replace("\t", "    "), fill=colour, font=_font(weight))
    return page


@cache
def _font(weight: str) -> ImageFont.FreeTypeFont:
    # Matplotlib brings the one font with it that has most of the signs of mathematics.
    name = "DejaVuSansMono-Bold.ttf" if weight == "bold" else "DejaVuSansMono.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf", name), _FONT)


def _find_picture(group: PromptResponses) -> Image.Image | str:
    """The prompt's first picture, or why there is none."""
    if not group.prompt.images:
        return "no picture"
    try:
        return group.prompt.images[0].load().convert("RGB")
    except DataError as error:
        return textwrap.fill(visible(f"picture not shown: {error}"), 34)


def _fit(picture: Image.Image) -> Image.Image:
    how = Image.Resampling.NEAREST if max(picture.size) < _SMALL_PICTURE else Image.Resampling.LANCZOS
    return ImageOps.contain(picture, (_PICTURE_SIDE, _PICTURE_SIDE), how)


def sample_lines(group: PromptResponses, max_responses: int = 4) -> Iterator[tuple[str, str, str]]:
    """The lines of text of a sample, each with its colour and weight (``normal`` or ``bold``).

    Hidden characters are codes, and step lines are coloured by step score.
    """
    prompt = group.prompt
    for text in _wrap(prompt.question):
        yield text, _INK, "bold"
    answer = _one_line(prompt.answer) if prompt.answer is not None else "hidden"
    yield f"{'voted' if group.voted else 'gold'} answer: {answer}", _MUTED, "normal"
    picked = pick_responses(group, max_responses)
    for scored in picked:
        yield "", _INK, "normal"
        yield _headline(scored), _RIGHT if scored.verdict.correct else _WRONG, "bold"
        yield from _response_lines(scored)
    if len(group.responses) > len(picked):
        yield "", _INK, "normal"
        yield f"({len(picked)} of {len(group.responses)} responses shown)", _MUTED, "normal"


def _headline(scored: ScoredResponse) -> str:
    mark = "\N{CHECK MARK}" if scored.verdict.correct else "\N{MULTIPLICATION X}"
    parts = [f"{mark} {describe_outcome(scored)}"]
    if scored.process_reward is not None:
        parts.append(f"process reward {scored.process_reward:.2f}")
    return " \N{MIDDLE DOT} ".join(parts)


def _response_lines(scored: ScoredResponse) -> Iterator[tuple[str, str, str]]:
    left = _LINES_PER_TEXT
    for step, score in scored_steps(scored):
        colour = _INK if score is None else _LEVELS[score_level(score)]
        margin = "      " if score is None else f"{score:4.2f}  "
        for text in _wrap(step):
            if left == 0:
                yield "      \N{HORIZONTAL ELLIPSIS}", _MUTED, "normal"
                return
            left -= 1
            yield margin + text, colour, "normal"
            margin = "      "


def _wrap(text: str) -> list[str]:
    lines = [line for row in visible(text).split("\n") for line in textwrap.wrap(row, _WRAP) or [""]]
    return lines[:_LINES_PER_TEXT]


def _one_line(text: str) -> str:
    return textwrap.shorten(visible(text), _WRAP - 16, placeholder=" \N{HORIZONTAL ELLIPSIS}")
