"""Figures for TensorBoard, drawn with matplotlib's object interface (no display, no global state)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_INK: Final = "#1d2327"
_LINES: Final = ("#0b7a75", "#d07a1f", "#3f6fb5", "#a8487a", "#6b7280")


def sweep_figure(scores: Mapping[float, Mapping[str, float]], chosen: float, metric: str) -> Figure:
    """Draws a temperature sweep: one line a metric over the candidate temperatures, the chosen one marked.

    Args:
        scores: For every candidate temperature, the value of every metric, e.g. ``reward_pass@2``, ``pass@16`` and
            ``accuracy``.
        metric: The metric that decided; its line is drawn on top and thicker.
    """
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


def pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """Renders a figure to an RGB array of shape (height, width, 3)."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3]
    return picture
