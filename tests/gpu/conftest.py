"""The device of the tests: each runs on the CPU with all others, and on CUDA where there is one (``make test-gpu``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

_NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, _NO_CUDA])])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the test computes, in float32 without TF32 if it asks for nothing else."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield request.param
    torch.backends.cudnn.allow_tf32 = before


@dataclass(frozen=True)
class Place:
    """How a trainer and the command line name the device.

    Attributes:
        accelerator: Lightning's name.
        flags: The same on the command line, for one process.
    """

    accelerator: str
    flags: tuple[str, ...]


@pytest.fixture
def place(device: str) -> Place:
    """The device by Lightning's name."""
    accelerator = "gpu" if device == "cuda" else "cpu"
    return Place(accelerator, ("--trainer.accelerator", accelerator, "--trainer.devices", "1"))
