"""The interface of every prompt source, and by which weights training draws from several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mstar.prompts.facts import SourceFacts
from mstar.types import Prompt


@dataclass(frozen=True, slots=True)
class Mixing:
    """Which source every prompt is from, and what is drawn of each.

    Attributes:
        numbers_P: For every prompt the number of its source.
        weights: For every source its weight.
    """

    numbers_P: NDArray[np.int64]
    weights: tuple[float, ...]

    def select(self, rows: NDArray[np.int64]) -> Mixing:
        """The same for some of the prompts."""
        return Mixing(self.numbers_P[rows], self.weights)

    def counts(self, total: int) -> list[int]:
        """How many of ``total`` draws each source gets: its share by weight, what is left going to the largest rests.

        A source without prompts gets none.
        """
        there = np.bincount(self.numbers_P, minlength=len(self.weights)) > 0
        weights = np.array(self.weights) * there
        exact = total * weights / weights.sum()
        counts = np.floor(exact).astype(np.int64)
        order = np.argsort(counts - exact, kind="stable")
        counts[order[: total - int(counts.sum())]] += 1
        return [int(count) for count in counts]


class PromptSource(ABC):
    """A fixed, ordered collection of prompts; a prompt (and its picture) is built only when it is asked for.

    Attributes:
        name: What reports call it; empty for the name of its class.
        origin: Which of several sources with that name it is: its path, or its split.
        instruction: A line that it adds to every question; empty for none.
    """

    name: str = ""
    origin: str = ""
    instruction: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """The number of prompts."""

    @abstractmethod
    def __getitem__(self, index: int) -> Prompt:
        """The prompt at ``index``, from 0.

        Raises:
            IndexError: ``index`` is not in [0, len).
        """

    @abstractmethod
    def index_of(self, prompt_id: str) -> int | None:
        """The index of the prompt with this id; None if there is none."""

    def facts(self, rows: NDArray[np.int64] | None = None) -> SourceFacts | None:
        """What is known without a look at the prompts; None where nothing is.

        Args:
            rows: The numbers of the prompts whose kinds are counted; None counts all.
        """
        return None

    def mixing(self) -> Mixing | None:
        """By which weights training draws from it; None for all prompts alike."""
        return None

    def members(self) -> tuple[PromptSource, ...]:
        """The sources that it is made of: itself, unless it is a part or a mixture of others."""
        return (self,)

    @property
    def title(self) -> str:
        """Its name in reports."""
        return self.name or type(self).__name__

    def __iter__(self) -> Iterator[Prompt]:
        return (self[i] for i in range(len(self)))
