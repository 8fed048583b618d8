"""A data set and its parts, written once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from mstar.errors import ConfigError
from mstar.prompts import DataSources, MixedPrompts, Part, PromptPart, TinyDice

DICE = partial(TinyDice, split="pool", size=8)


def test_a_part_changes_what_the_data_set_says() -> None:
    sources = DataSources(DICE, train=Part(), test=Part(split="test", size=3), warmup=Part(start=2, stop=4))
    assert [prompt.id for prompt in sources.require("test", "x")] == [p.id for p in TinyDice("test", 3)]
    train = sources.open("train")
    assert isinstance(train, TinyDice)
    assert len(train) == 8
    warmup = sources.open("warmup")
    assert isinstance(warmup, PromptPart)
    assert [prompt.id for prompt in warmup] == [train[2].id, train[3].id]


def test_what_is_not_there_is_not_used_and_two_parts_fall_back_on_train() -> None:
    sources = DataSources(DICE, train=Part(size=2))
    assert sources.open("validation") is None
    assert [len(sources.require(name, "x")) for name in ("warmup", "annotation")] == [2, 2]
    with pytest.raises(ConfigError, match=r"data\.sources has no part 'test'"):
        sources.require("test", "data.sources")


def test_what_the_data_set_does_not_have_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"sources\.train\.split is 'trian', but TinyDice has seed, .*pool"):
        DataSources(DICE, train=Part(split="trian")).open("train")
    mixed = partial(MixedPrompts, sources=[TinyDice("pool", 4)])
    with pytest.raises(ConfigError, match=r"sources\.train\.size is set, but MixedPrompts has no 'size'"):
        DataSources(mixed, train=Part(size=2)).open("train")


class Kept(TinyDice):
    """A source of one's own, which hands on what it does not name."""

    def __init__(self, kept: int = 1, **settings: Any) -> None:
        super().__init__(**settings)
        self.kept = kept


def test_a_source_of_ones_own_has_what_it_hands_on_to_its_parent() -> None:
    train = DataSources(partial(Kept, split="pool", kept=2), train=Part(size=2)).open("train")
    assert isinstance(train, Kept)
    assert (train.kept, len(train)) == (2, 2)
    with pytest.raises(ConfigError, match=r"sources\.train\.split is 'trian', but Kept has seed, .*pool"):
        DataSources(Kept, train=Part(split="trian")).open("train")
