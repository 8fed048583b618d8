"""Some prompts of a source, by their numbers; and ids that must not repeat."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mstar.prompts.base import PromptSource
from mstar.prompts.prompt_table import hash_id
from mstar.types import Prompt

__all__ = ["PromptSubset", "find_repetition"]


class PromptSubset(Sequence[Prompt]):
    """Prompts of a source in an order of their own; each is built when it is asked for.

    Args:
        source: The source.
        indices: The numbers of the prompts in it; None for all.
    """

    def __init__(self, source: PromptSource, indices: NDArray[np.int64] | None = None) -> None:
        self.source = source
        self.indices = np.arange(len(source)) if indices is None else indices

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
