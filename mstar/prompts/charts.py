"""Bar charts with questions: a task that a small pretrained model gets wrong by itself; nothing wrong is put in.

Every picture, question, answer and rationale follows from (split, seed, index), so nothing is stored or downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from PIL import Image, ImageDraw

from mstar.prompts.coloured import (
    COLOURS,
    SIZE,
    THINGS,
    ColouredImage,
    ColouredPrompts,
    ColouredThings,
    Split,
    Words,
    draw_colours,
    draw_question,
)  # fmt: skip

_WORDS: Final = Words("bar", "taller", "tallest", "shortest", "count")
KINDS: Final = _WORDS.kinds
# Pixels: a bar's width and pitch, where bars stand, and a unit's height; grid lines every 5 units.
_WIDTH: Final = 12
_PITCH: Final = 16
_LEFT: Final = 2
_FLOOR: Final = 62
_UNIT: Final = 3
_TALLEST: Final = 20


@dataclass(frozen=True, slots=True)
class Chart(ColouredThings):
    """Bars and a question; a bar's number is its height, and bars are counted that are taller than a threshold."""

    words: ClassVar[Words] = _WORDS

    @property
    def counted(self) -> str:
        """Bars above the threshold."""
        return f"taller than {self.threshold}"

    def is_counted(self, number: int) -> bool:
        """Whether a bar of this height is above the threshold."""
        return number > self.threshold


def draw_chart(rng: np.random.Generator) -> Chart:
    """Draws the bars and the question."""
    colours = draw_colours(rng)
    heights = [int(height) for height in 1 + rng.permutation(_TALLEST)[:THINGS]]
    bars = tuple(zip(colours, heights, strict=True))
    kind, first, second, threshold = draw_question(rng, _WORDS, bars)
    return Chart(bars, kind, first, second, int(rng.integers(5, 16)) if kind == "count" else threshold)


def paint(chart: Chart, rng: np.random.Generator) -> Image.Image:
    """Draws the chart as a 64x64 RGB picture: grid lines every 5 units, colours that vary a little, pixel noise."""
    picture = Image.new("RGB", (SIZE, SIZE), (250, 250, 250))
    pen = ImageDraw.Draw(picture)
    for height in range(0, _TALLEST + 1, 5):
        pen.line((0, _FLOOR - _UNIT * height, SIZE - 1, _FLOOR - _UNIT * height), fill=(205, 205, 205))
    for place, (colour, height) in enumerate(chart.things):
        left = _LEFT + _PITCH * place
        fill = tuple(int(value) for value in np.clip(np.array(COLOURS[colour]) + rng.uniform(-15, 15, 3), 0, 255))
        pen.rectangle((left, _FLOOR - _UNIT * height, left + _WIDTH - 1, _FLOOR - 1), fill=fill)
    noisy = np.asarray(picture, dtype=np.float64) + rng.normal(0, 5, (SIZE, SIZE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class ChartImage(ColouredImage):
    """A reference to the picture of a chart."""

    task: ClassVar[str] = "charts"

    @property
    def shown(self) -> Chart:
        """What is on it."""
        return draw_chart(self.rng("chart"))

    def load(self) -> Image.Image:
        """Draws the picture."""
        return paint(self.shown, self.rng("picture"))


class Charts(ColouredPrompts):
    """Questions about generated bar charts of four coloured bars: six kinds, chains in sentences, nothing planted.

    Splits never share a picture: the split's name is part of every picture's seed. A chain is right if it says the true
    height of every bar that the question needs, in any order and in the words of the seed rationales, and concludes
    rightly; that is used for measuring alone, and by the selection ``oracle``.

    Args:
        split: ``seed`` prompts carry a right rationale to imitate; ``align`` is for a new vision tower; the others
            carry only the answer.
        size: Number of prompts.
        seed: Seed of the pictures and questions. Leave it at 0 to compare runs on the same data.

    Raises:
        ConfigError: ``size`` is below 1.
    """

    image: ClassVar[type[ColouredImage]] = ChartImage

    def __init__(self, split: Split, size: int, seed: int = 0) -> None:
        super().__init__(split, size, seed)
