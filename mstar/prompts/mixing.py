"""By which weights training draws from the sources of a mixture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mixing"]


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
