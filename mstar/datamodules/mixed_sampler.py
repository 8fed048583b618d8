"""The rows of an epoch of several sources, by their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset, DistributedSampler

from mstar.iteration_plan import draw_mixed
from mstar.prompts.base import Mixing


class MixedSampler(DistributedSampler[Any]):
    """Draws as many rows as there are, from each source by its weight; see ``MixedPrompts``.

    What an epoch draws follows from the seed and its number, so that a run can go on within it.
    """

    def __init__(self, data: Dataset[Any], mixing: Mixing, num_replicas: int, rank: int, seed: int) -> None:
        super().__init__(data, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)
        self.mixing = mixing

    def __iter__(self) -> Iterator[int]:
        """The numbers of this process's rows."""
        drawn = draw_mixed(self.mixing, len(self.mixing.numbers_P), self.epoch, self.seed, "rationales")
        return (int(drawn[place]) for place in super().__iter__())
