"""Random first weights that follow from a seed, without a trace in the state of all other random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn within follows from the seed; afterwards the random states are what they were.

    ``torch.manual_seed`` would seed every GPU too, now or when CUDA is first used, and ``fork_rng`` brings back only
    those states that it is told of.
    """
    cuda: Any = torch.cuda
    devices = [cuda.current_device()] if cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        yield
