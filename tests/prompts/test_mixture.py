"""Several prompt sources as one."""

from __future__ import annotations

import pytest

from mstar.errors import ConfigError, DataError
from mstar.prompts import MixedPrompts, PromptPart, TinyDice


def test_the_sources_stand_one_after_another() -> None:
    first, second = TinyDice("pool", 3), TinyDice("seed", 2)
    mixed = MixedPrompts([first, second], [1, 3])
    expected = [*first, *second]
    assert [mixed[index] for index in range(5)] == list(mixed) == expected
    assert [mixed.index_of(prompt.id) for prompt in expected] == [0, 1, 2, 3, 4]
    assert mixed.members() == (first, second)
    with pytest.raises(IndexError):
        mixed[5]
    assert mixed.index_of("other") is None


def test_a_part_of_a_mixture_is_mixed_alike() -> None:
    mixed = MixedPrompts([TinyDice("pool", 3), TinyDice("seed", 2)], [1, 3])
    mixing = PromptPart(mixed, start=2).mixing()
    assert mixing is not None
    assert (list(mixing.numbers_P), mixing.weights) == ([0, 1, 1], (1, 3))
    assert MixedPrompts([TinyDice("pool", 3)]).mixing() is None


def test_mistakes() -> None:
    pool = TinyDice("pool", 3)
    for weights in ([1.0], [1.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ConfigError, match="needs a number above 0"):
            MixedPrompts([pool, TinyDice("seed", 2)], weights)
    with pytest.raises(ConfigError, match="at least one"):
        MixedPrompts([])
    with pytest.raises(DataError, match="the prompt id 'pool-0-0' of TinyDice"):
        MixedPrompts([pool, pool])
