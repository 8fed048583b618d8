"""What the tests on real vLLM share. Only one engine may be alive in a process at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mstar.generation import VllmEngine

MakeEngine = Callable[..., VllmEngine]
Change = Callable[..., Any]


@pytest.fixture(scope="session")
def make_engine() -> MakeEngine:
    """Makes an engine that is small enough for a test."""

    def make(**arguments: Any) -> VllmEngine:
        settings: dict[str, Any] = {"max_new_tokens": 24, "enforce_eager": True, "kv_cache_gb": 0.25, "progress": False}
        return VllmEngine(**(settings | arguments))

    return make


@pytest.fixture(scope="session")
def change() -> Change:
    """Makes a copy of a model with other weights: everywhere, or where ``part`` is in their names."""

    def changed(model: Any, part: str = "", scale: float = 0.03) -> Any:
        other = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in other.named_parameters():
                if part in name:
                    parameter += scale * torch.randn(parameter.shape, generator=generator)
        return other.eval()

    return changed
