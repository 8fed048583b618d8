"""Some prompts of a source: a part by range, share or list of ids; a subset by number; and ids that must not repeat."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from mstar.errors import ConfigError, DataError
from mstar.prompts.base import Mixing, PromptSource
from mstar.prompts.facts import SourceFacts
from mstar.prompts.prompt_table import asked_id, hash_id
from mstar.types import Prompt

_SHOWN: Final = 3


class PromptPart(PromptSource):
    """Some prompts of a source, in its order; where several ways to choose are given, those that all of them choose.

    Args:
        source: The source.
        start: The number, from 0, of the first row. A range follows the order of the rows, so that other rows before it
            move it.
        stop: The number behind the last row; none is the end.
        share: From which to which share of the prompts, e.g. 0 and 0.9. A prompt's place in [0, 1) follows from its id
            and ``seed`` alone: it does not depend on the order of the rows or on how many there are, and shares that
            do not overlap have no prompt in common. Of ids that follow from the content, it is what is asked that
            counts: a question with several rationales is in one of them.
        ids: A file with a prompt's id on each line; the source must have all of them.
        seed: Seed of the places that ``share`` cuts.

    Raises:
        ConfigError: a bound is out of its range.
        DataError: the list of ids cannot be read or names a prompt that is not there, or no prompt is left.
    """

    def __init__(
        self,
        source: PromptSource,
        start: int = 0,
        stop: int | None = None,
        share: tuple[float, float] | None = None,
        ids: str | None = None,
        seed: int = 0,
    ) -> None:
        if start < 0 or (stop is not None and stop <= start):
            raise ConfigError(f"a part from row {start} to {stop} has no rows: start is at least 0, and stop above it.")
        if share is not None and not 0 <= share[0] < share[1] <= 1:
            raise ConfigError(f"share is {list(share)}, but it goes from one bound to a higher one, both in [0, 1].")
        self.source = source
        chosen = np.zeros(len(source), dtype=bool)
        chosen[start:stop] = True
        if share is not None:
            places = (hash_id(asked_id(prompt.id), f"{seed}/share/") for prompt in source)
            keys = np.fromiter(places, np.uint64, len(source))
            # 53 bits are what a float holds.
            shares = (keys >> np.uint64(11)).astype(np.float64) / 2.0**53
            chosen &= (share[0] <= shares) & (shares < share[1])
        if ids is not None:
            listed = np.zeros(len(source), dtype=bool)
            listed[_find_listed(source, Path(ids))] = True
            chosen &= listed
        self._chosen = chosen
        self._rows = np.flatnonzero(chosen)
        self.name, self.origin = source.title, source.origin
        if not len(self._rows):
            raise DataError(f"{self.title}: the part has none of the {len(source)} prompts; widen it.")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Prompt:
        if not 0 <= index < len(self._rows):
            raise IndexError(index)
        return self.source[int(self._rows[index])]

    def __iter__(self) -> Iterator[Prompt]:
        # A table reads many rows at once faster than a few one by one.
        return iter(compress(self.source, self._chosen))

    def index_of(self, prompt_id: str) -> int | None:
        """The index of the prompt with this id; see the interface."""
        row = self.source.index_of(prompt_id)
        return None if row is None or not self._chosen[row] else int(np.searchsorted(self._rows, row))

    def facts(self, rows: NDArray[np.int64] | None = None) -> SourceFacts | None:
        """What is known of the whole source, with the kinds of the part's prompts; see the interface."""
        return self.source.facts(self._rows if rows is None else self._rows[rows])

    def mixing(self) -> Mixing | None:
        """How its sources are mixed; see the interface."""
        mixing = self.source.mixing()
        return None if mixing is None else mixing.select(self._rows)

    def members(self) -> tuple[PromptSource, ...]:
        """The sources that it is made of; see the interface."""
        return self.source.members()


def _find_listed(source: PromptSource, path: Path) -> NDArray[np.int64]:
    if not path.is_file():
        raise DataError(f"the list of ids '{path}' does not exist; check the path.")
    wanted = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    found = [source.index_of(prompt_id) for prompt_id in wanted]
    missing = [prompt_id for prompt_id, index in zip(wanted, found, strict=True) if index is None]
    if missing:
        raise DataError(
            f"'{path}' lists {len(missing)} prompts that {source.title} does not have, such as "
            f"{', '.join(map(repr, missing[:_SHOWN]))}: it was made from other data."
        )
    return np.array(found, dtype=np.int64)


class PromptSubset(Sequence[Prompt]):
    """Prompts of a source, by their numbers in it, in an order of their own; each is built when it is asked for."""

    def __init__(self, source: PromptSource, indices: NDArray[np.int64]) -> None:
        self.source = source
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...

    @overload
    def __getitem__(self, index: slice) -> PromptSubset: ...

    def __getitem__(self, index: int | slice) -> Prompt | PromptSubset:
        if isinstance(index, slice):
            return PromptSubset(self.source, self.indices[index])
        return self.source[int(self.indices[index])]


def find_repetition(ids: Iterable[str]) -> int | None:
    """The position of the first id that was there before, or None; eight bytes an id are held."""
    keys = np.frombuffer(array("Q", map(hash_id, ids)), np.uint64)
    order = np.argsort(keys, kind="stable")
    repeated = order[1:][keys[order[1:]] == keys[order[:-1]]]
    return int(repeated.min()) if len(repeated) else None
