"""Which responses are written together: whole requests in order, within a number or within the memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mstar.generation.base import Request, Sample
from mstar.generation.batches import Memory, fill_batches
from mstar.models.sizes import CacheSize
from mstar.types import Prompt


def requests_of(*counts: int) -> list[Request]:
    return [
        Request(Prompt(str(number), "?"), tuple(Sample(i, 1.0, i) for i in range(count)))
        for number, count in enumerate(counts)
    ]


def filled(counts: list[int], lengths: list[int], fits: Callable[[int, int, int], bool]) -> list[list[tuple[int, int]]]:
    batches = fill_batches(requests_of(*counts), lengths, fits)
    return [[(row.request, row.sample.index) for row in batch] for batch in batches]


def at_most(number: int) -> Callable[[int, int, int], bool]:
    return lambda _prompts, _longest, rows: rows <= number


def sizes(counts: list[int], fits: Callable[[int, int, int], bool]) -> list[list[int]]:
    """For every batch, how many rows of each of its requests."""
    batches = filled(counts, [1] * len(counts), fits)
    return [[sum(n == number for n, _ in batch) for number in dict.fromkeys(n for n, _ in batch)] for batch in batches]


@pytest.mark.parametrize(
    ("counts", "limit", "expected"),
    [
        ([4, 4, 4], 8, [[4, 4], [4]]),
        ([4, 4, 4], 11, [[4, 4], [4]]),  # whole requests
        ([7, 2], 3, [[3], [3], [1, 2]]),  # the rest of a request that is split goes on
        ([2, 7], 3, [[2], [3], [3], [1]]),
        ([0, 3, 0], 3, [[3]]),
        ([], 3, []),
        ([5], 1, [[1]] * 5),
    ],
)
def test_batches_by_number(counts: list[int], limit: int, expected: list[list[int]]) -> None:
    assert sizes(counts, at_most(limit)) == expected
    batches = filled(counts, [1] * len(counts), at_most(limit))
    wanted = [(number, index) for number, count in enumerate(counts) for index in range(count)]
    assert [row for batch in batches for row in batch] == wanted


def test_a_limit_that_falls_meanwhile_counts() -> None:
    limit = [8]
    batches = fill_batches(requests_of(4, 4, 4, 4), [1] * 4, lambda _p, _l, rows: rows <= limit[0])
    assert len(next(batches)) == 8
    limit[0] = 4
    assert [len(batch) for batch in batches] == [4, 4]


MEMORY = Memory(
    available=100_000, cache=CacheSize(whole=10, windows=((8, 3),), fixed=7), max_new_tokens=50, shared=True,
    row=100, score=1, encoding=20,
)  # fmt: skip


def test_what_a_batch_needs() -> None:
    # Two prompts of 30 tokens in layers that keep everything and one that keeps 8; while they are read, 20 a token.
    prompts = 2 * (30 * 10 + 8 * 3 + 7)
    assert MEMORY.needed(2, 30, 0) == prompts + 2 * 30 * 20
    # Room for a row's new tokens, its own copy of the window and the state, its logits and its scores.
    assert MEMORY.needed(2, 30, 5) == prompts + 5 * (128 * 10 + 8 * 3 + 7 + 100 + 80)
    # Where prompts cannot be shared, every row has its own.
    assert replace(MEMORY, shared=False).needed(2, 30, 5) == prompts + 5 * (80 * 10 + 8 * 3 + 7 + 100 + 80)
    assert not MEMORY.fits(1, 1, 10_000)
    assert MEMORY.fits(1, 1_000_000, 1)  # a single row is always tried


def test_batches_by_memory() -> None:
    by_rows = filled([16] * 8, [30] * 8, MEMORY.fits)
    assert [len(batch) for batch in by_rows] == [64, 64]
    assert 64 < MEMORY.available / (128 * 10 + 8 * 3 + 7 + 100 + 80) < 80
    # Long prompts count, and so does what they are padded to.
    assert [len(batch) for batch in filled([16] * 8, [2000] + [30] * 7, MEMORY.fits)] == [16, 64, 48]
    # A prompt whose samples are too many is split at what fits.
    first, second = filled([120], [30], MEMORY.fits)
    assert MEMORY.fits(1, 30, len(first))
    assert not MEMORY.fits(1, 30, len(first) + 1)
    assert len(first) + len(second) == 120
    # One response a prompt, as in validation: the reading of the prompts decides.
    alone = filled([1] * 200, [300] * 200, MEMORY.fits)
    assert len(alone[0]) * 300 * (20 + 10) <= MEMORY.available
    assert len(alone) > 5


def test_the_type_of_computing_counts(tiny: Any) -> None:
    plain = Memory.of(tiny.model, 10**9, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = Memory.of(tiny.model, 10**9, 32)
    assert 2 * half.cache.whole == plain.cache.whole > 0
    assert half.encoding < plain.encoding
    assert plain.row == 24 * tiny.model.config.text_config.vocab_size
