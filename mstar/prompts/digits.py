"""Handwritten digits with questions: real handwriting for a small pretrained model, which is misread by nature.

The digits are the 1,797 of the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak,
1998, UCI Machine Learning Repository, DOI 10.24432/C50P49, CC BY 4.0): 8x8 pixels, of 13 people none of whom wrote for
the training set. scikit-learn's package carries them; the file is taken out of it, and nothing of the package runs.

A picture has four of them in four colours, one below the other. Which ones, what is asked and how it is drawn follow
from (split, seed, index). Nothing wrong is put in: seed rationales are right throughout, also where a digit is hardly
legible.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mstar.errors import DataError
from mstar.packaged import PackagedFile
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
from mstar.prompts.prompt_table import cache_root, make_cache_folder

DIGITS_FILE: Final = PackagedFile(
    "scikit-learn==1.7.2",
    "digits.csv.gz",
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    "the file of handwritten digits",
)

# The rows of the file that a split draws from. The file goes form by form, and every form begins with 0 to 9 in order,
# again and again: these are such beginnings, so that no split has a digit from another one's form.
SCANS: Final = {
    "align": (0, 1029),
    "seed": (1029, 1157),
    "pool": (1157, 1287),
    "annotation": (1287, 1415),
    "test": (1415, 1667),
    "validation": (1667, 1797),
}
_WORDS: Final = Words("digit", "larger", "largest", "smallest", "even")
KINDS: Final = _WORDS.kinds
# Pixels of a scan's edge, and its darkest value; pixels of the edge of the cells that they are drawn into, and where
# these stand. A strip of the picture is said by that strip's own image tokens, which is learned sooner than to carry a
# digit elsewhere: in 2x2 larger cells, 24 % of the digits were misread after as many steps.
_EDGE: Final = 8
_DARKEST: Final = 16
_CELL: Final = SIZE // THINGS
_LEFT: Final = 32


def digits_folder() -> Path:
    """Where the file of digits is kept: below ``$MSTAR_CACHE``, else in the user's cache folder."""
    return cache_root() / "digits"


def download_digits() -> Path:
    """Downloads the file of digits, unless it is there already."""
    make_cache_folder(digits_folder())
    return DIGITS_FILE.download(digits_folder())


@dataclass(frozen=True, slots=True)
class Sheet(ColouredThings):
    """Four digits and a question; even ones are counted.

    Attributes:
        scans: The row of every digit in the file.
    """

    words: ClassVar[Words] = _WORDS

    scans: tuple[int, ...]

    @property
    def counted(self) -> str:
        """Even digits."""
        return "even"

    def is_counted(self, number: int) -> bool:
        """Whether the digit is even."""
        return number % 2 == 0


def read_scans() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Reads the file of digits, once a process.

    Returns:
        How much ink every pixel has (N, H, W), from 0 to 1, and which digit it is (N).

    Raises:
        DataError: it is not there, or is not the one that is pinned.
    """
    path = digits_folder() / DIGITS_FILE.name
    if not path.exists():
        raise DataError(
            f"'{path}' is not there: `python -m mstar.small --task digits --stages start` downloads it (10 MB)."
        )
    return _read(path)


@cache
def _read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    DIGITS_FILE.check(path)
    with gzip.open(path, "rt", encoding="ascii") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.float32, ndmin=2)
    ink_NHW = (rows[:, :-1].reshape(-1, _EDGE, _EDGE) / _DARKEST).astype(np.float32)
    return ink_NHW, rows[:, -1].astype(np.int64)


def draw_sheet(rng: np.random.Generator, split: str) -> Sheet:
    """Draws four different digits of a split's scans, their colours, and the question."""
    colours = draw_colours(rng)
    _, digit_N = read_scans()
    start, stop = SCANS[split]
    drawn: dict[int, int] = {}
    for scan in rng.permutation(np.arange(start, stop)):
        drawn.setdefault(int(digit_N[scan]), int(scan))
        if len(drawn) == THINGS:
            break
    digits = tuple(zip(colours, drawn, strict=True))
    kind, first, second, threshold = draw_question(rng, _WORDS, digits)
    return Sheet(digits, kind, first, second, threshold, tuple(drawn.values()))


def paint(sheet: Sheet, rng: np.random.Generator) -> Image.Image:
    """Draws the digits in a column of a 64x64 RGB picture, a little turned, scaled and out of line; pixel noise."""
    canvas = np.full((SIZE, SIZE, 3), 250.0)
    ink_NHW, _ = read_scans()
    for place, ((colour, _), scan) in enumerate(zip(sheet.things, sheet.scans, strict=True)):
        ink = _place(ink_NHW[scan], rng)[..., None]
        fill = np.array(COLOURS[colour]) + rng.uniform(-15, 15, 3)
        cell = canvas[_CELL * place : _CELL * (place + 1), _LEFT : _LEFT + _CELL]
        cell += ink * (fill - cell)
    canvas += rng.normal(0, 5, canvas.shape)
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8))


def _place(ink_HW: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The ink of a cell."""
    angle, pixel = rng.uniform(-0.15, 0.15), rng.uniform(1.8, 2.1)
    right, down = rng.uniform(-1, 1), rng.uniform(-0.5, 0.5)
    # From a place in the cell to one in the scan, both seen from their middles.
    cos, sin = math.cos(angle) / pixel, math.sin(angle) / pixel
    x, y = _CELL / 2 + right, _CELL / 2 + down
    # A margin, so that strokes at the scan's edge fade out as all others do.
    middle = _EDGE / 2 + 2
    placed = Image.fromarray(np.pad(ink_HW, 2)).transform(
        (_CELL, _CELL), Image.Transform.AFFINE,
        (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y), Image.Resampling.BICUBIC,
    )  # fmt: skip
    return np.asarray(placed).clip(0, 1)


@dataclass(frozen=True, slots=True)
class DigitsImage(ColouredImage):
    """A reference to the picture of four digits."""

    task: ClassVar[str] = "digits"

    @property
    def shown(self) -> Sheet:
        """What is on it."""
        return draw_sheet(self.rng("sheet"), self.split)

    def load(self) -> Image.Image:
        """Draws the picture."""
        return paint(self.shown, self.rng("picture"))


class Digits(ColouredPrompts):
    """Questions about four real handwritten digits in four colours: six kinds, chains in sentences, nothing planted.

    Splits never share a digit, nor the form that it was written on. A chain is right if it says the true value of
    every digit that the question needs, in any order and in the words of the seed rationales, and concludes rightly;
    that is used for measuring alone, and by the selection ``oracle``. The digits are those of UCI's "Optical
    Recognition of Handwritten Digits" (CC BY 4.0), which ``python -m mstar.small --task digits`` downloads to
    ``$MSTAR_CACHE``, else ``~/.cache/mstar``.

    Args:
        split: ``seed`` prompts carry a right rationale to imitate; ``align`` is for a new vision tower; the others
            carry only the answer.
        size: Number of prompts; a digit is on several of them.
        seed: Seed of the pictures and questions. Leave it at 0 to compare runs on the same data.

    Raises:
        ConfigError: ``size`` is below 1.
    """

    image: ClassVar[type[ColouredImage]] = DigitsImage

    def __init__(self, split: Split, size: int, seed: int = 0) -> None:
        super().__init__(split, size, seed)
