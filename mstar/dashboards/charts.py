"""Line charts as inline SVG: no script, no library, coloured by the page's style sheet (light and dark)."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Series", "line_chart", "ticks"]

_WIDTH: Final = 440
_HEIGHT: Final = 230
_LEFT: Final = 46
_RIGHT: Final = 14
_TOP: Final = 10
_BOTTOM: Final = 36
# Of a line with more points, the points are not drawn one by one.
_MOST_DOTS: Final = 40


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        label: Its name in the legend.
        points: (x, y) in order of x; a point whose y is None is left out.
    """

    label: str
    points: tuple[tuple[float, float | None], ...]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers, about ``count`` of them, that span [low, high]."""
    if high <= low:
        low, high = low - (abs(low) / 10 or 0.5), high + (abs(high) / 10 or 0.5)
    raw = (high - low) / (count - 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if raw <= factor * unit * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    show: Callable[[float], str],
    *,
    note: str = "",
    mark: float | None = None,
    whole_x: bool = True,
) -> str:
    """Draws a chart with its title and legend as an HTML ``figure``.

    Args:
        title: What is shown.
        series: The lines; at least one point of one of them must be known.
        x_label: What the horizontal axis counts.
        show: Writes a value of the vertical axis.
        note: One sentence under the title.
        mark: A value of x that is marked with a vertical line, and whose values the legend gives instead of the last.
        whole_x: Whether x takes whole numbers only (iterations).

    Returns:
        Escaped HTML.
    """
    known = [(x, y) for line in series for x, y in line.points if y is not None]
    xs = sorted({x for line in series for x, _ in line.points} | ({mark} if mark is not None else set()))
    y_ticks = ticks(min(y for _, y in known), max(y for _, y in known))
    x_low, x_high = (xs[0] - 0.5, xs[-1] + 0.5) if len(xs) == 1 else (xs[0], xs[-1])

    def place_x(x: float) -> float:
        return round(_LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT), 1)

    def place_y(y: float) -> float:
        span = y_ticks[-1] - y_ticks[0]
        return round(_TOP + (y_ticks[-1] - y) / span * (_HEIGHT - _TOP - _BOTTOM), 1)

    x_ticks = xs[:: -(-len(xs) // 10)] if whole_x else [t for t in ticks(x_low, x_high, 8) if x_low <= t <= x_high]
    parts = [_grid_line(place_y(value), show(value)) for value in y_ticks]
    parts += [
        f'<text class="tick" x="{place_x(value)}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">{value:g}</text>'
        for value in x_ticks
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{_HEIGHT - 3}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    if mark is not None:
        at = place_x(mark)
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    for number, line in enumerate(series):
        placed = [(place_x(x), place_y(y), f"{x_label} {x:g}: {show(y)}") for x, y in line.points if y is not None]
        parts.append(_draw_line(number, line.label, placed))
    legend = "".join(_legend_item(number, line, show, mark) for number, line in enumerate(series))
    caption = f"<p>{html.escape(note)}</p>" if note else ""
    label = html.escape(f"{title}: {', '.join(line.label for line in series)} by {x_label}", quote=True)
    return (
        f'<figure class="chart"><figcaption><h3>{html.escape(title)}</h3>{caption}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _grid_line(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text class="tick" x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{html.escape(text)}</text>'
    )


def _draw_line(number: int, label: str, placed: Sequence[tuple[float, float, str]]) -> str:
    path = " ".join(f"{x},{y}" for x, y, _ in placed)
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="3.2"><title>{html.escape(f"{label}, {text}")}</title></circle>'
        for x, y, text in (placed if len(placed) <= _MOST_DOTS else ())
    )
    return f'<g class="line c{number % 5}"><polyline points="{path}"/>{dots}</g>'


def _legend_item(number: int, line: Series, show: Callable[[float], str], mark: float | None) -> str:
    """The line's name and its value: at the marked x, or the last one."""
    known = [(x, y) for x, y in line.points if y is not None and (mark is None or math.isclose(x, mark))]
    value = f" <b>{html.escape(show(known[-1][1]))}</b>" if known else ""
    return f'<li class="c{number % 5}"><i></i>{html.escape(line.label)}{value}</li>'
