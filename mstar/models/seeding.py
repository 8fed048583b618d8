"""Random first weights that follow from a seed, without a trace in the state of all other random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn within follows from the seed; afterwards the random states are what they were.

    It is drawn on the CPU, so that one seed gives the same weights on every device: Lightning loads a model with its
    GPU as the place of new tensors. ``torch.manual_seed`` would seed every GPU too, now or when CUDA is first used.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
