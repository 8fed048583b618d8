"""What the tasks for a small pretrained model have in common: four coloured things, each with a number, and questions.

Nothing wrong is put in: seed rationales are right throughout. What a policy then misreads is its own doing, and as
questions of the kinds ``more``, the greatest one and the count have few answers, some of its wrong chains end in the
right one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar, Final, Literal, get_args

import numpy as np

from mstar.prompts.generated import GeneratedImage, GeneratedPrompts
from mstar.types import AnswerType, Prompt

Split = Literal["align", "seed", "pool", "annotation", "validation", "test"]

COLOURS: Final = {
    "red": (214, 39, 40),
    "blue": (31, 90, 200),
    "green": (44, 160, 44),
    "yellow": (235, 200, 40),
    "purple": (140, 70, 190),
    "black": (40, 40, 40),
}
# Pixels of a picture's edge, and how many things are on it.
SIZE: Final = 64
THINGS: Final = 4
_OF_TWO: Final = ("total", "difference", "more")


@dataclass(frozen=True, slots=True)
class Words:
    """How a task speaks.

    Attributes:
        greatest: Of all, the greatest; also the name of the question for it.
        count: The name of the question of how many things are of a certain sort.
    """

    thing: str
    greater: str
    greatest: str
    least: str
    count: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the six kinds of question."""
        return (*_OF_TWO, self.greatest, "range", self.count)


@dataclass(frozen=True, slots=True)
class ColouredThings(ABC):
    """What is on one picture and what is asked about it.

    Attributes:
        things: Colour and number of every one, in reading order; all numbers differ.
        first: Colour of the thing that a question of two names first.
        threshold: The N of a question that has one, else 0.
    """

    words: ClassVar[Words]

    things: tuple[tuple[str, int], ...]
    kind: str
    first: str
    second: str
    threshold: int

    @property
    @abstractmethod
    def counted(self) -> str:
        """Which things are counted, as a question and a chain say it."""

    @abstractmethod
    def is_counted(self, number: int) -> bool:
        """Whether a thing of this number is among them."""

    def number(self, colour: str) -> int:
        """The number of the thing of this colour."""
        return dict(self.things)[colour]

    @property
    def question(self) -> str:
        """The question's text."""
        words, thing = self.words, self.words.thing
        a, b = f"the {self.first} {thing}", f"the {self.second} {thing}"
        return {
            "total": f"What is the total of {a} and {b}?",
            "difference": f"How much {words.greater} is {a} than {b}?",
            "more": f"Are {a} and {b} together more than {self.threshold}?",
            words.greatest: f"Which {thing} is the {words.greatest}?",
            "range": f"How much {words.greater} is the {words.greatest} {thing} than the {words.least} {thing}?",
            words.count: f"How many {thing}s are {self.counted}?",
        }[self.kind]

    @property
    def answer(self) -> str:
        """The gold answer."""
        return self._conclusion(self._read)[-1]

    @property
    def answer_type(self) -> AnswerType:
        """What kind of answer it is."""
        return AnswerType.TEXT if self.kind in ("more", self.words.greatest) else AnswerType.INTEGER

    @property
    def _read(self) -> tuple[str, ...]:
        """The colours of the things that must be read."""
        return (self.first, self.second) if self.kind in _OF_TWO else tuple(colour for colour, _ in self.things)

    def _conclusion(self, order: tuple[str, ...]) -> tuple[str, ...]:
        """The sentences behind the readings in this order, and the answer."""
        numbers = [self.number(colour) for colour in order]
        thing, greatest = self.words.thing, self.words.greatest
        match self.kind:
            case "total":
                return f"{numbers[0]} + {numbers[1]} = {sum(numbers)}.", str(sum(numbers))
            case "more":
                above = sum(numbers) > self.threshold
                compared = f"{sum(numbers)} is {'' if above else 'not '}more than {self.threshold}."
                return f"{numbers[0]} + {numbers[1]} = {sum(numbers)}.", compared, "yes" if above else "no"
            case "difference" | "range":
                # What a question of two names first is the greater one.
                high, low = max(numbers), min(numbers)
                return f"{high} - {low} = {high - low}.", str(high - low)
            case kind if kind == greatest:
                colour = max(self.things, key=lambda item: item[1])[0]
                return f"The {greatest} {thing} is {colour}.", colour
            case _:
                count = sum(self.is_counted(number) for number in numbers)
                return f"{count} {thing}{' is' if count == 1 else 's are'} {self.counted}.", str(count)

    def rationale(self, order: tuple[str, ...]) -> str:
        """The right chain that reads the things in this order."""
        readings = [f"The {colour} {self.words.thing} is {self.number(colour)}." for colour in order]
        *sentences, answer = self._conclusion(order)
        return "\n".join([*readings, *sentences, f"Answer: {answer}"])

    @property
    def right_rationales(self) -> tuple[str, ...]:
        """The chains that are right throughout: the things may be read in any order."""
        return tuple(self.rationale(order) for order in permutations(self._read))

    def seed_rationale(self, rng: np.random.Generator) -> str:
        """A right chain, forwards or backwards."""
        return self.rationale(self._read[:: 1 if rng.integers(2) else -1])


def draw_colours(rng: np.random.Generator) -> list[str]:
    """Draws the colours of the things, all different."""
    names = list(COLOURS)
    return [names[i] for i in rng.permutation(len(names))[:THINGS]]


def draw_question(
    rng: np.random.Generator, words: Words, things: Sequence[tuple[str, int]]
) -> tuple[str, str, str, int]:
    """Draws a question about things of these colours and numbers.

    Returns:
        Its kind; the colours of the things that a question of two names, else two empty words; the N of ``more``, else
        0.
    """
    kind = words.kinds[int(rng.integers(len(words.kinds)))]
    first, second = (things[int(i)] for i in rng.permutation(len(things))[:2])
    if kind == "difference" and first[1] < second[1]:
        first, second = second, first
    # Near the sum: who only guesses is right half of the time, who is off by one or two mostly not.
    threshold = max(0, first[1] + second[1] + int(rng.integers(-3, 3))) if kind == "more" else 0
    return (kind, first[0], second[0], threshold) if kind in _OF_TWO else (kind, "", "", threshold)


@dataclass(frozen=True, slots=True)
class ColouredImage(GeneratedImage):
    """A reference to the picture of coloured things."""

    splits: ClassVar[tuple[str, ...]] = get_args(Split)

    @property
    @abstractmethod
    def shown(self) -> ColouredThings:
        """What is on it, and what is asked."""


class ColouredPrompts(GeneratedPrompts):
    """Questions about pictures of coloured things. A chain is right if it is one of the right ones, word for word."""

    image: ClassVar[type[ColouredImage]]

    def __getitem__(self, index: int) -> Prompt:
        prompt_id = self.id_of(index)
        image = self.image(self.split, self.seed, index)
        shown = image.shown
        return Prompt(
            id=prompt_id,
            question=shown.question,
            images=(image,),
            answer=shown.answer,
            answer_type=shown.answer_type,
            rationale=shown.seed_rationale(image.rng("rationale")) if self.split == "seed" else None,
            reference_responses=shown.right_rationales,
            category=shown.kind,
        )
