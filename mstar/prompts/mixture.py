"""Several prompt sources as one, drawn from by weight."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, chain

import numpy as np

from mstar.errors import ConfigError, DataError
from mstar.prompts.base import Mixing, PromptSource
from mstar.prompts.part import find_repetition
from mstar.types import Prompt


class MixedPrompts(PromptSource):
    """Several sources as one, the prompts of the first one first; training draws from them by weight.

    A weight says how large a share of what is trained on comes from a source, whatever its size. One source may have
    the weight 3 and another 1: three quarters of the prompts of every iteration (``rollout.interval`` of all prompts
    together) are the first one's, and three quarters of the rows of every epoch without rollouts, which has as many
    rows as there are prompts. Each source is gone through in a shuffled order of its own, which goes on in the next
    iteration or epoch where it stopped, and is shuffled anew after every pass: a small source with a large weight comes
    round more often, and of a large one with a small weight nothing is left out for good. An iteration takes a prompt
    at most once, so a source that is smaller than its share is taken whole, and the iteration is that much smaller; an
    epoch repeats its rows. What is drawn follows from the seed and the number of the iteration or epoch.

    Validation, test and annotation take every prompt once, whatever the weights.

    Args:
        sources: The sources; an id may stand in one of them only.
        weights: A number above 0 for every source; none draws from all prompts alike.

    Raises:
        ConfigError: there is no source, or the weights do not fit the sources.
        DataError: two prompts have the same id.
    """

    def __init__(self, sources: list[PromptSource], weights: list[float] | None = None) -> None:
        if not sources:
            raise ConfigError("MixedPrompts: sources is empty; give at least one.")
        if weights is not None and (len(weights) != len(sources) or not all(0 < w < float("inf") for w in weights)):
            raise ConfigError(
                f"MixedPrompts: weights is {weights}, but each of the {len(sources)} sources needs a number above 0."
            )
        self.sources = sources
        self.weights = weights
        self._starts = [0, *accumulate(map(len, sources))]
        repeated = find_repetition(prompt.id for prompt in self)
        if repeated is not None:
            source = sources[self._number(repeated)]
            raise DataError(
                f"{self.title}: the prompt id '{self[repeated].id}' of {source.title} stands in it or an earlier "
                "source already; set fields.id to '', so that ids follow from the content, or leave out a source."
            )

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Prompt:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = self._number(index)
        return self.sources[number][index - self._starts[number]]

    def __iter__(self) -> Iterator[Prompt]:
        return chain.from_iterable(self.sources)

    def index_of(self, prompt_id: str) -> int | None:
        """The index of the prompt with this id; see the interface."""
        for start, source in zip(self._starts, self.sources, strict=False):
            if (index := source.index_of(prompt_id)) is not None:
                return start + index
        return None

    def mixing(self) -> Mixing | None:
        """How the sources are mixed; see the interface."""
        if self.weights is None:
            return None
        return Mixing(np.repeat(np.arange(len(self.sources)), np.diff(self._starts)), tuple(self.weights))

    def members(self) -> tuple[PromptSource, ...]:
        """The sources that it is made of; see the interface."""
        return tuple(chain.from_iterable(source.members() for source in self.sources))

    @property
    def title(self) -> str:
        """The names of its sources."""
        return " + ".join(source.title for source in self.sources)

    def _number(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1
