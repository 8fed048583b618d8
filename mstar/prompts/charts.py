"""Bar charts with questions: a task that a small pretrained model gets wrong by itself; nothing wrong is put in.

Every picture, question, answer and rationale follows from (split, seed, index), so nothing is stored or downloaded.
Seed rationales are right throughout. What a policy then misreads is its own doing, and as questions of the kinds
``more``, ``tallest`` and ``count`` have few answers, some of its wrong chains end in the right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar, Final, Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

from mstar.prompts.generated import GeneratedImage, GeneratedPrompts
from mstar.types import AnswerType, Prompt

__all__ = ["COLOURS", "KINDS", "SIZE", "Chart", "ChartImage", "Charts", "draw_chart", "paint"]

Split = Literal["align", "seed", "pool", "annotation", "validation", "test"]

KINDS: Final = ("total", "difference", "more", "tallest", "range", "count")
_OF_TWO: Final = ("total", "difference", "more")
COLOURS: Final = {
    "red": (214, 39, 40),
    "blue": (31, 90, 200),
    "green": (44, 160, 44),
    "yellow": (235, 200, 40),
    "purple": (140, 70, 190),
    "black": (40, 40, 40),
}
# Pixels: the picture's edge, a bar's width and pitch, where bars stand, and a unit's height; grid lines every 5 units.
SIZE: Final = 64
_WIDTH: Final = 12
_PITCH: Final = 16
_LEFT: Final = 2
_FLOOR: Final = 62
_UNIT: Final = 3
_BARS: Final = 4
_TALLEST: Final = 20


@dataclass(frozen=True, slots=True)
class Chart:
    """What is on one picture and what is asked about it.

    Attributes:
        bars: Colour and height of every bar, from left to right; all heights differ.
        kind: The kind of question, one of ``KINDS``.
        first: Colour of the bar that a question of two bars names first.
        second: Colour of the other.
        threshold: The N of ``more`` and ``count``; 0 for the other kinds.
    """

    bars: tuple[tuple[str, int], ...]
    kind: str
    first: str
    second: str
    threshold: int

    def height(self, colour: str) -> int:
        """The height of the bar of this colour."""
        return dict(self.bars)[colour]

    @property
    def question(self) -> str:
        """The question's text."""
        a, b, n = self.first, self.second, self.threshold
        return {
            "total": f"What is the total of the {a} bar and the {b} bar?",
            "difference": f"How much taller is the {a} bar than the {b} bar?",
            "more": f"Are the {a} bar and the {b} bar together more than {n}?",
            "tallest": "Which bar is the tallest?",
            "range": "How much taller is the tallest bar than the shortest bar?",
            "count": f"How many bars are taller than {n}?",
        }[self.kind]

    @property
    def answer(self) -> str:
        """The gold answer."""
        return self._conclusion(self._read)[-1]

    @property
    def _read(self) -> tuple[str, ...]:
        """The colours of the bars that must be read."""
        return (self.first, self.second) if self.kind in _OF_TWO else tuple(colour for colour, _ in self.bars)

    def _conclusion(self, order: tuple[str, ...]) -> tuple[str, ...]:
        """The sentences behind the readings in this order, and the answer."""
        heights = [self.height(colour) for colour in order]
        match self.kind:
            case "total":
                return f"{heights[0]} + {heights[1]} = {sum(heights)}.", str(sum(heights))
            case "more":
                above = sum(heights) > self.threshold
                compared = f"{sum(heights)} is {'' if above else 'not '}more than {self.threshold}."
                return f"{heights[0]} + {heights[1]} = {sum(heights)}.", compared, "yes" if above else "no"
            case "difference":
                tall, short = self.height(self.first), self.height(self.second)
                return f"{tall} - {short} = {tall - short}.", str(tall - short)
            case "range":
                tall, short = max(heights), min(heights)
                return f"{tall} - {short} = {tall - short}.", str(tall - short)
            case "tallest":
                colour = max(self.bars, key=lambda bar: bar[1])[0]
                return f"The tallest bar is {colour}.", colour
            case _:
                count = sum(height > self.threshold for height in heights)
                return f"{count} {'bar is' if count == 1 else 'bars are'} taller than {self.threshold}.", str(count)

    def rationale(self, order: tuple[str, ...]) -> str:
        """The right chain that reads the bars in this order."""
        readings = [f"The {colour} bar is {self.height(colour)}." for colour in order]
        *sentences, answer = self._conclusion(order)
        return "\n".join([*readings, *sentences, f"Answer: {answer}"])

    @property
    def right_rationales(self) -> tuple[str, ...]:
        """The chains that are right throughout: the bars may be read in any order."""
        return tuple(self.rationale(order) for order in permutations(self._read))

    def seed_rationale(self, rng: np.random.Generator) -> str:
        """A right chain, forwards or backwards."""
        return self.rationale(self._read[:: 1 if rng.integers(2) else -1])


def draw_chart(rng: np.random.Generator) -> Chart:
    """Draws the bars and the question."""
    names = list(COLOURS)
    colours = [names[i] for i in rng.permutation(len(names))[:_BARS]]
    heights = [int(height) for height in 1 + rng.permutation(_TALLEST)[:_BARS]]
    kind = KINDS[int(rng.integers(len(KINDS)))]
    a, b = (int(i) for i in rng.permutation(_BARS)[:2])
    if kind == "difference" and heights[a] < heights[b]:
        a, b = b, a
    threshold = 0
    if kind == "more":
        # Near the sum: who only guesses is right half of the time, who is off by one or two mostly not.
        threshold = heights[a] + heights[b] + int(rng.integers(-3, 3))
    elif kind == "count":
        threshold = int(rng.integers(5, 16))
    first, second = (colours[a], colours[b]) if kind in _OF_TWO else ("", "")
    return Chart(tuple(zip(colours, heights, strict=True)), kind, first, second, threshold)


def paint(chart: Chart, rng: np.random.Generator) -> Image.Image:
    """Draws the chart as a 64x64 RGB picture: grid lines every 5 units, colours that vary a little, pixel noise."""
    picture = Image.new("RGB", (SIZE, SIZE), (250, 250, 250))
    pen = ImageDraw.Draw(picture)
    for height in range(0, _TALLEST + 1, 5):
        pen.line((0, _FLOOR - _UNIT * height, SIZE - 1, _FLOOR - _UNIT * height), fill=(205, 205, 205))
    for place, (colour, height) in enumerate(chart.bars):
        left = _LEFT + _PITCH * place
        fill = tuple(int(value) for value in np.clip(np.array(COLOURS[colour]) + rng.uniform(-15, 15, 3), 0, 255))
        pen.rectangle((left, _FLOOR - _UNIT * height, left + _WIDTH - 1, _FLOOR - 1), fill=fill)
    noisy = np.asarray(picture, dtype=np.float64) + rng.normal(0, 5, (SIZE, SIZE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class ChartImage(GeneratedImage):
    """A reference to the picture of a chart."""

    task: ClassVar[str] = "charts"
    splits: ClassVar[tuple[str, ...]] = get_args(Split)

    @property
    def chart(self) -> Chart:
        """What is on it."""
        return draw_chart(self.rng("chart"))

    def load(self) -> Image.Image:
        """Draws the picture."""
        return paint(self.chart, self.rng("picture"))


class Charts(GeneratedPrompts):
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

    def __init__(self, split: Split, size: int, seed: int = 0) -> None:
        super().__init__(split, size, seed)

    def __getitem__(self, index: int) -> Prompt:
        prompt_id = self.id_of(index)
        image = ChartImage(self.split, self.seed, index)
        chart = image.chart
        return Prompt(
            id=prompt_id,
            question=chart.question,
            images=(image,),
            answer=chart.answer,
            answer_type=AnswerType.TEXT if chart.kind in ("more", "tallest") else AnswerType.INTEGER,
            rationale=chart.seed_rationale(image.rng("rationale")) if self.split == "seed" else None,
            reference_responses=chart.right_rationales,
            category=chart.kind,
        )
