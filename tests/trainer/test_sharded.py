"""The FSDP2 strategy, as a trainer uses it."""

from __future__ import annotations

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from mstar.trainer.sharded import ShardedStrategy


def test_nothing_is_evaluated_in_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one GPU, FSDP2 raises "Inference tensors do not track version counter"."""
    monkeypatch.setattr(ModelParallelStrategy, "setup", lambda self, trainer: None)
    trainer = Trainer(
        accelerator="cpu", devices=1, strategy=ShardedStrategy(), logger=False, enable_checkpointing=False
    )
    assert trainer.validate_loop.inference_mode
    trainer.strategy.setup(trainer)
    for loop in (trainer.validate_loop, trainer.test_loop, trainer.predict_loop):
        assert not loop.inference_mode
