"""Which rows an epoch draws: of several sources by their weights, or prompt by prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler

from mstar.generation import derive_seed
from mstar.iteration.plan import draw_mixed
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


class RowNumbers(Dataset[list[int]]):
    """The identity: a batch is made from row numbers in the collate function."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, rows: list[int]) -> list[int]:
        return rows


class PromptBatchSampler(DistributedSampler[list[int]]):
    """Yields batches of row numbers, filled prompt by prompt, so that the responses of a prompt meet in a batch.

    The order follows from (seed, epoch) alone. Every process gets the same number of batches (the first ones are used
    twice where need be), which gradient synchronisation relies on; Lightning calls ``set_epoch``.

    Args:
        groups: For every prompt, the numbers of its rows.
        batch_size: Rows in a batch; the last batch may be smaller.
        shuffle: Whether the prompts are shuffled.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int] | NDArray[np.int64]],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self.groups = groups
        self.batch_size = batch_size
        self.num_batches = math.ceil(sum(map(len, groups)) / batch_size)
        super().__init__(RowNumbers(self.num_batches), num_replicas, rank, shuffle, seed)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(len(self.groups)))
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "step-labels", self.epoch))
            order = torch.randperm(len(order), generator=generator).tolist()
        rows = np.concatenate([self.groups[number] for number in order]).astype(int).tolist() if order else []
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        while len(batches) < self.total_size:
            batches += batches[: self.total_size - len(batches)]
        yield from batches[self.rank :: self.num_replicas]

    def repeats(self, number: int) -> bool:
        """Whether this process's batch of this number, from 0, was used already."""
        return number * self.num_replicas + self.rank >= self.num_batches
