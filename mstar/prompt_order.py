"""Which prompts an iteration or an epoch takes: a function of the seed and its number alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mstar.generation import derive_seed
from mstar.prompts.base import Mixing

__all__ = ["draw_mixed", "iteration_indices"]


def iteration_indices(
    num_prompts: int, interval: float, iteration: int, seed: int, stage: str = "order", mixing: Mixing | None = None
) -> NDArray[np.int64]:
    """Which prompts one iteration uses: the next ``interval`` of the shuffled prompts, reshuffled after every pass.

    Args:
        num_prompts: Prompts in all.
        interval: Fraction of them in one iteration, in (0, 1]; at least one prompt is used.
        iteration: The iteration's number, from 1.
        seed: The run's seed.
        stage: What the prompts are for; each stage has its own order.
        mixing: The weights of several sources, each of which is then gone through for itself; None for one source.
    """
    count = max(1, round(num_prompts * interval))
    if mixing is None:
        chosen = _walk(num_prompts, (iteration - 1) * count, count, seed, stage)
    else:
        chosen = draw_mixed(mixing, count, iteration - 1, seed, stage)
    # An iteration may hold the end of one pass and the beginning of the next: a prompt that is in both is used once.
    _, places = np.unique(chosen, return_index=True)
    return chosen[np.sort(places)]


def draw_mixed(mixing: Mixing, count: int, number: int, seed: int, stage: str) -> NDArray[np.int64]:
    """The next ``count`` draws from several sources by their weights, in a shuffled order.

    Args:
        mixing: The sources and their weights.
        count: How many draws; a prompt may be drawn more than once.
        number: How often as many were drawn before.
        seed: The run's seed.
        stage: What the prompts are for.
    """
    parts = []
    for source, share in enumerate(mixing.counts(count)):
        if share:
            rows = np.flatnonzero(mixing.numbers_P == source)
            parts.append(rows[_walk(len(rows), number * share, share, seed, f"{stage}/source {source}")])
    drawn = np.concatenate(parts)
    return drawn[np.random.default_rng(derive_seed(seed, "mixed", stage, number)).permutation(len(drawn))]


def _walk(size: int, first: int, count: int, seed: int, stage: str) -> NDArray[np.int64]:
    """``count`` of ``size`` numbers from place ``first`` of an order that is shuffled anew after every pass."""
    passes = range(first // size, (first + count - 1) // size + 1)
    orders = [np.random.default_rng(derive_seed(seed, "prompts", stage, number)).permutation(size) for number in passes]
    offset = first - passes[0] * size
    return np.concatenate(orders)[offset : offset + count]
