"""The embedded task: questions about two of the dice on a small generated board.

Every picture, question, answer and rationale follows from (split, seed, index), so nothing is stored or downloaded. The
questions of the kinds ``even``, ``more`` and ``remainder`` have coarse answers that a wrong reading hits by luck; most
of the *seed rationales* of these kinds are wrong in just that way (``seed_noise``). They stand for rationales that an
annotator kept because their final answer was right, and they are what an MPRM can remove. This is by construction: the
gap between selection rules on this task is not a finding about real data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, Literal, get_args

import numpy as np
from PIL import Image

from mstar.prompts.generated import GeneratedImage, GeneratedPrompts
from mstar.types import AnswerType, Prompt

Split = Literal["seed", "pool", "annotation", "refresh", "validation", "test", "tokenizer"]

KINDS: Final = ("sum", "difference", "even", "more", "remainder")
_NUMERIC: Final = ("sum", "difference")
_PALETTE: Final = {
    "red": (220, 40, 40),
    "blue": (40, 70, 220),
    "green": (30, 160, 60),
    "yellow": (230, 200, 30),
    "purple": (150, 50, 170),
    "black": (30, 30, 30),
}
# Lattice positions (row major on 3x3) of the pips of each value.
_PIPS: Final = {
    1: (4,),
    2: (0, 8),
    3: (0, 4, 8),
    4: (0, 2, 6, 8),
    5: (0, 2, 4, 6, 8),
    6: (0, 2, 3, 5, 6, 8),
    7: (0, 2, 3, 4, 5, 6, 8),
    8: (0, 1, 2, 3, 5, 6, 7, 8),
    9: (0, 1, 2, 3, 4, 5, 6, 7, 8),
}
_CELL: Final = 16
_DIE: Final = 15
_STEP: Final = (_DIE - 1) // 3
_OFFSET: Final = (_DIE - (2 * _STEP + 2)) // 2
_STYLES: Final = (" = ", " is ")
# Boards, and pictures of them, of about 4 KB each, that are not drawn again: each is asked for about five times an
# iteration, to be looked at, shown, scored and trained on.
_KEPT: Final = 8192


@dataclass(frozen=True, slots=True)
class Board:
    """What is on one picture and what is asked about it.

    Attributes:
        dice: (colour, value, cell) of every die; cells are numbered row major on the 2x2 board.
        first: Colour of the die that the question names first.
        second: Colour of the die that the question names second.
        kind: The kind of question, one of ``KINDS``.
        threshold: The N of ``more``; 0 for the other kinds.
    """

    dice: tuple[tuple[str, int, int], ...]
    first: str
    second: str
    kind: str
    threshold: int

    def value(self, colour: str) -> int:
        """The true value of the die of this colour."""
        return next(value for name, value, _ in self.dice if name == colour)

    @property
    def question(self) -> str:
        """The question's text."""
        a, b = self.first, self.second
        return {
            "sum": f"What is {a} plus {b}?",
            "difference": f"How much more is {a} than {b}?",
            "even": f"Is {a} plus {b} even?",
            "more": f"Is {a} plus {b} more than {self.threshold}?",
            "remainder": f"What is left of {a} plus {b} in threes?",
        }[self.kind]

    def result(self, first_value: int, second_value: int) -> int:
        """The number on the chain's third line, for these readings."""
        return first_value - second_value if self.kind == "difference" else first_value + second_value

    def conclude(self, result: int) -> str:
        """The final answer that follows from the number on the third line."""
        match self.kind:
            case "even":
                return "yes" if result % 2 == 0 else "no"
            case "more":
                return "yes" if result > self.threshold else "no"
            case "remainder":
                return str(result % 3)
            case _:
                return str(result)

    @property
    def answer(self) -> str:
        """The gold answer."""
        return self.conclude(self.result(self.value(self.first), self.value(self.second)))

    def rationale(self, first_value: int, second_value: int, style: str, swapped: bool) -> str:
        """The chain for these readings; ``swapped`` reads the second die first."""
        readings = [(self.first, first_value), (self.second, second_value)]
        x, y = first_value, second_value
        if swapped:
            readings.reverse()
            if self.kind != "difference":
                x, y = y, x
        sign = "-" if self.kind == "difference" else "+"
        result = self.result(first_value, second_value)
        lines = [f"{colour}{style}{value}" for colour, value in readings]
        return "\n".join([*lines, f"{x} {sign} {y} = {result}", f"Answer: {self.conclude(result)}"])

    @property
    def right_rationales(self) -> tuple[str, ...]:
        """The four chains that are right throughout: two styles, two reading orders."""
        a, b = self.value(self.first), self.value(self.second)
        return tuple(self.rationale(a, b, style, swapped) for style in _STYLES for swapped in (False, True))

    def noisy_readings(self, rng: np.random.Generator) -> tuple[int, int]:
        """A misreading of one or both dice, each by at most 3, that ends in the gold answer; the truth if none does."""
        a, b = self.value(self.first), self.value(self.second)
        pairs = [
            (x, y)
            for x in range(max(1, a - 3), min(9, a + 3) + 1)
            for y in range(max(1, b - 3), min(9, b + 3) + 1)
            if (x, y) != (a, b) and self.conclude(self.result(x, y)) == self.answer
        ]
        return pairs[rng.integers(len(pairs))] if pairs else (a, b)


def draw_board(rng: np.random.Generator) -> Board:
    """Draws the dice and the question."""
    count = int(rng.integers(3, 5))
    cells = rng.permutation(4)[:count]
    colours = [list(_PALETTE)[i] for i in rng.permutation(len(_PALETTE))[:count]]
    values = rng.integers(1, 10, size=count)
    dice = tuple((c, int(v), int(cell)) for c, v, cell in zip(colours, values, cells, strict=True))
    a, b = (int(i) for i in rng.permutation(count)[:2])
    kind = KINDS[int(rng.integers(len(KINDS)))]
    if kind == "difference" and values[a] < values[b]:
        a, b = b, a
    threshold = int(values[a] + values[b]) - int(rng.integers(2)) if kind == "more" else 0
    return Board(dice, colours[a], colours[b], kind, threshold)


def paint(board: Board, rng: np.random.Generator) -> Image.Image:
    """Draws the board as a 32x32 RGB picture with jitter and pixel noise."""
    canvas = np.full((2 * _CELL, 2 * _CELL, 3), rng.uniform(200, 255), dtype=np.float64)
    for colour, value, cell in board.dice:
        top = (cell // 2) * _CELL + int(rng.integers(_CELL - _DIE + 1))
        left = (cell % 2) * _CELL + int(rng.integers(_CELL - _DIE + 1))
        canvas[top : top + _DIE, left : left + _DIE] = np.array(_PALETTE[colour]) + rng.uniform(-20, 20, size=3)
        for pip in _PIPS[value]:
            y = top + _OFFSET + (pip // 3) * _STEP
            x = left + _OFFSET + (pip % 3) * _STEP
            canvas[y : y + 2, x : x + 2] = 245
    canvas += rng.normal(0, 6, size=canvas.shape)
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class TinyDiceImage(GeneratedImage):
    """A reference to the picture of a board."""

    task: ClassVar[str] = "tiny-dice"
    splits: ClassVar[tuple[str, ...]] = get_args(Split)

    def load(self) -> Image.Image:
        """Draws the picture."""
        return _paint_once(self).copy()


@lru_cache(_KEPT)
def _draw_once(image: TinyDiceImage) -> Board:
    return draw_board(image.rng("board"))


@lru_cache(_KEPT)
def _paint_once(image: TinyDiceImage) -> Image.Image:
    return paint(_draw_once(image), image.rng("picture"))


class TinyDice(GeneratedPrompts):
    """The embedded visual-reasoning task: dice on a 2x2 board, five kinds of question.

    Splits never share a picture: the split's name is part of every picture's seed.

    Args:
        split: ``seed`` prompts carry a rationale to imitate; ``pool``, ``annotation`` and ``refresh`` only the answer;
            ``validation`` and ``test`` are held out.
        size: Number of prompts.
        seed: Seed of the pictures and questions. Leave it at 0 to compare runs on the same data.

    Raises:
        ConfigError: ``size`` is below 1.
    """

    # Share of the coarse-answer seed rationales (even, more, remainder) that misread the dice yet end in the right
    # answer; it makes 48 % of all seed rationales wrong.
    seed_noise: ClassVar[float] = 0.8

    def __init__(self, split: Split, size: int, seed: int = 0) -> None:
        super().__init__(split, size, seed)

    def __getitem__(self, index: int) -> Prompt:
        prompt_id = self.id_of(index)
        image = TinyDiceImage(self.split, self.seed, index)
        board = _draw_once(image)
        return Prompt(
            id=prompt_id,
            question=board.question,
            images=(image,),
            answer=board.answer,
            answer_type=AnswerType.TEXT if board.kind in ("even", "more") else AnswerType.INTEGER,
            rationale=self._seed_rationale(board, image.rng("rationale")) if self.split == "seed" else None,
            reference_responses=board.right_rationales,
            category=board.kind,
        )

    def _seed_rationale(self, board: Board, rng: np.random.Generator) -> str:
        noisy = board.kind not in _NUMERIC and rng.random() < self.seed_noise
        a, b = board.noisy_readings(rng) if noisy else (board.value(board.first), board.value(board.second))
        return board.rationale(a, b, _STYLES[int(rng.integers(2))], bool(rng.integers(2)))


def tokenizer_texts(count: int = 3000, seed: int = 12345) -> list[str]:
    """Questions with right rationales, for training the embedded tokenizer."""
    source = TinyDice("tokenizer", count, seed)
    return [f"{p.question}\n{p.reference_responses[i % 4]}" for i, p in enumerate(source)]
