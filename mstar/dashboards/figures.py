"""Figures for TensorBoard, drawn with matplotlib's object interface (no display, no global state)."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from mstar.dashboards.wording import describe_outcome, score_level, visible
from mstar.errors import DataError
from mstar.steps import split_steps
from mstar.storage import PromptResponses
from mstar.types import Fate, ScoredResponse

__all__ = ["pick_responses", "pixels", "sample_figure", "sweep_figure"]

_INK: Final = "#1d2327"
_MUTED: Final = "#6b7280"
_RIGHT: Final = "#0b6e69"
_WRONG: Final = "#b3402a"
_LEVELS: Final = ("#b3402a", "#b9652a", "#8f7a1c", "#4f7d3a", "#0b6e69")
_LINES: Final = ("#0b7a75", "#d07a1f", "#3f6fb5", "#a8487a", "#6b7280")
_WRAP: Final = 84
_LINES_PER_TEXT: Final = 14
_LINE_INCHES: Final = 0.19
_SMALL_PICTURE: Final = 256


def sweep_figure(scores: Mapping[float, Mapping[str, float]], chosen: float, metric: str) -> Figure:
    """Draws a temperature sweep: one line a metric over the candidate temperatures, the chosen one marked.

    Args:
        scores: For every candidate temperature, the value of every metric, e.g. ``reward_pass@2``, ``pass@16`` and
            ``accuracy``.
        chosen: The temperature that the controller moved to.
        metric: The metric that decided; its line is drawn on top and thicker.

    Raises:
        ValueError: ``scores`` is empty.
    """
    if not scores:
        raise ValueError("a temperature sweep needs at least one candidate")
    temperatures = sorted(scores)
    names = list(dict.fromkeys(name for t in temperatures for name in scores[t]))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(names):
        values = [scores[t].get(name, math.nan) for t in temperatures]
        decides = name == metric
        axes.plot(
            temperatures,
            values,
            marker="o",
            markersize=5 if decides else 3.5,
            linewidth=2.6 if decides else 1.4,
            color=_LINES[index % len(_LINES)],
            label=name,
            zorder=3 if decides else 2,
        )
    axes.axvline(chosen, color=_INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1, label=f"chosen: {chosen:g}")
    axes.set_xlabel("sampling temperature")
    axes.set_ylabel("share of prompts")
    axes.set_title(f"Temperature sweep, chosen by {metric}", loc="left", parse_math=False)
    axes.grid(axis="y", color="#e3e3e0")
    axes.spines[["top", "right"]].set_visible(False)
    for label in axes.legend(frameon=False).get_texts():
        label.set_parse_math(False)
    return figure


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


def sample_figure(group: PromptResponses, *, max_responses: int = 4) -> Figure:
    """Draws one prompt: its first picture on the left, question, gold answer and scored responses on the right.

    The texts are drawn as they are (no mathtext), hidden characters as codes, step lines coloured by step score.

    Args:
        group: The prompt and its scored responses.
        max_responses: How many responses are drawn, see ``pick_responses``.
    """
    lines = list(_sample_lines(group, max_responses))
    height = max(3.2, _LINE_INCHES * (len(lines) + 2))
    figure = Figure(figsize=(11, height), facecolor="white")
    _draw_picture(figure, group, height)
    for number, (text, colour, weight) in enumerate(lines):
        figure.text(
            0.3,
            1 - (number + 1) * _LINE_INCHES / height,
            text.replace("\t", "    "),
            color=colour,
            fontweight=weight,
            fontsize=9,
            family="monospace",
            verticalalignment="top",
            parse_math=False,
        )
    return figure


def pixels(figure: Figure, *, dots_per_inch: int = 100) -> npt.NDArray[np.uint8]:
    """Renders a figure to an RGB array of shape (height, width, 3)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A character without a glyph is drawn as a box, which is what a reader needs to know.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=dots_per_inch)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def _draw_picture(figure: Figure, group: PromptResponses, height: float) -> None:
    side = 2.8
    axes = figure.add_axes((0.02, 1 - (side + _LINE_INCHES) / height, side / 11, side / height))
    axes.set_axis_off()
    if not group.prompt.images:
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=_MUTED)
        return
    try:
        picture = group.prompt.images[0].load()
    except DataError as error:
        reason = textwrap.fill(visible(f"picture not shown: {error}"), 34)
        axes.text(0, 1, reason, ha="left", va="top", fontsize=8, color=_WRONG, parse_math=False)
        return
    interpolation = "nearest" if max(picture.size) < _SMALL_PICTURE else "antialiased"
    axes.imshow(np.asarray(picture.convert("RGB")), interpolation=interpolation)
    axes.set_anchor("N")


def _sample_lines(group: PromptResponses, max_responses: int) -> Iterator[tuple[str, str, str]]:
    """(text, colour, weight) of every line of text."""
    prompt = group.prompt
    for text in _wrap(prompt.question):
        yield text, _INK, "bold"
    yield f"gold answer: {_one_line(prompt.answer) if prompt.answer is not None else 'hidden'}", _MUTED, "normal"
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
    steps = split_steps(scored.response.text)
    has_scores = len(scored.step_scores) == len(steps)
    left = _LINES_PER_TEXT
    for number, step in enumerate(steps):
        score = scored.step_scores[number] if has_scores else None
        colour = _INK if score is None else _LEVELS[score_level(score)]
        margin = "      " if score is None else f"{score:4.2f}  "
        for text in _wrap(step.rstrip("\n")):
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
