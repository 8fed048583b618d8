"""Weights that a batch does not use: in one process they get no gradient, and so they do with DDP."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

__all__ = ["expect_unused_weights"]


def expect_unused_weights(trainer: Trainer) -> None:
    """Has DDP look which weights a loss depends on, unless the configuration says otherwise.

    DDP waits for a gradient of every weight else. A batch without pictures leaves the vision tower out, and some models
    have weights that nothing uses: LLaVA reads its tower before the last layer. Weights that no process used get no
    gradient, so that no optimizer moves or decays them.

    Args:
        trainer: The trainer, before its strategy is set up.
    """
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
