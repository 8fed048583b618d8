"""Prompts by their numbers, built when they are asked for, and ids that repeat."""

from __future__ import annotations

import numpy as np
import pytest

from mstar.prompts import TinyDice
from mstar.prompts.subset import PromptSubset, find_repetition
from mstar.types import Prompt


class Counting(TinyDice):
    """Counts how many prompts it built."""

    built = 0

    def __getitem__(self, index: int) -> Prompt:
        self.built += 1
        return super().__getitem__(index)


def test_prompts_are_built_when_they_are_asked_for() -> None:
    source = Counting("pool", 50)
    subset = PromptSubset(source, np.array([40, 3, 7, 21]))
    part = subset[1:3]
    assert (len(subset), len(part), source.built) == (4, 2, 0)
    assert [prompt.id for prompt in part] == ["pool-0-3", "pool-0-7"]
    # Two, and none for the end of the sequence.
    assert source.built == 2
    assert subset[-1].id == "pool-0-21"
    assert [prompt.id for prompt in subset[3:9]] == ["pool-0-21"]
    with pytest.raises(IndexError):
        subset[4]


def test_all_prompts_of_a_source() -> None:
    source = TinyDice("pool", 5)
    assert list(PromptSubset(source)) == list(source)


@pytest.mark.parametrize(
    ("ids", "place"), [("", None), ("a", None), ("abc", None), ("abca", 3), ("abbaa", 2), ("cbab", 3), ("aa", 1)]
)
def test_the_first_id_that_was_there_before(ids: str, place: int | None) -> None:
    assert find_repetition(iter(ids)) == place
