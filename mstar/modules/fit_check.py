"""What of Lightning's trainer a fit of a backbone cannot have, with rollouts or without."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging, WeightAveraging

from mstar.errors import ConfigError


def check_fit(trainer: Trainer, *, adapters: bool) -> None:
    """Refuses what would silently do nothing, or another thing than it says.

    Args:
        adapters: Whether adapters are trained.

    Raises:
        ConfigError: there is such a setting or callback.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it so that mypy does not see it
        name = f"trainer.callbacks has {type(callback).__name__}"
        if isinstance(callback, StochasticWeightAveraging):
            raise ConfigError(
                f"{name}, which averages before the model is loaded: take EMAWeightAveraging in a fit without rollouts."
            )
        if isinstance(callback, WeightAveraging) and adapters:
            raise ConfigError(f"{name}, with which a run with model.lora cannot go on from a checkpoint: drop one.")
        if isinstance(callback, GradientAccumulationScheduler):
            raise ConfigError(f"{name}, but steps are made of one number of batches: set accumulate_grad_batches.")
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        raise ConfigError(
            "trainer.overfit_batches would not train on the same batches again and again: take data.train.size and "
            "trainer.limit_train_batches."
        )
    limit = trainer.limit_train_batches
    whole = limit is None or (isinstance(limit, float) and limit == 1)
    if whole or getattr(trainer, "fast_dev_run", False):
        return
    # A batch's loss is its share of its optimizer step's; where a fraction of an epoch ends is not known.
    batches = trainer.accumulate_grad_batches
    if (limit % batches) if isinstance(limit, int) else batches > 1:
        raise ConfigError(
            f"trainer.limit_train_batches is {limit}, which ends an epoch within an optimizer step: make it a "
            f"multiple of {batches}, the batches of a step (trainer.accumulate_grad_batches)."
        )
