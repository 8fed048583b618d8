"""Adapters in a bfloat16 engine, merged or apart: one that missed an update is found at once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mstar.errors import EngineDriftError
from mstar.generation.drift import DriftCheck
from mstar.generation.vllm_session import VllmSession
from mstar.models.lora import LoraSettings
from mstar.models.trained_part import prepare_training
from mstar.prompts import TinyDice

if TYPE_CHECKING:
    from tests.conftest import Policy
    from tests.vllm.conftest import MakeEngine

pytestmark = pytest.mark.vllm


def step(model: Any, size: float, seed: int) -> None:
    """Moves every adapter by that much, as Adam would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter += size * torch.randn(parameter.shape, generator=generator).sign()


@pytest.mark.parametrize("adapters", ["merged", "apart"])
def test_a_missed_update_is_found(
    adapters: str, trained: Policy, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = copy.deepcopy(trained.model)
    prepare_training(model, [], lora=LoraSettings(rank=4, alpha=12))
    engine, check = make_engine(adapters=adapters, dtype="bfloat16"), DriftCheck(TinyDice("pool", 8))
    engine.start(model, trained.renderer)
    try:
        for number in range(6):
            step(model, 1e-2, number)
            check.prepare(engine)
            engine.update_weights(model)
            assert check.measure(engine, model, trained.renderer) is not None
        step(model, 1e-3, 6)
        check.prepare(engine)
        with monkeypatch.context() as patch:
            patch.setattr(VllmSession, "_push_weights" if adapters == "merged" else "_push_adapter", lambda _: None)
            engine.update_weights(model)
        with pytest.raises(EngineDriftError, match=r"does not have the trainer's weights: '.*_proj"):
            check.measure(engine, model, trained.renderer)
    finally:
        engine.close()
