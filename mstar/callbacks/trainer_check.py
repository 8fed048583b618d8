"""What of Lightning's trainer cannot work: a fit of nothing, and what rollouts have no data or no measure for."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, WeightAveraging

from mstar.distributed import ONLY_CUDA
from mstar.errors import ConfigError


def require_training(trainer: Trainer) -> None:
    """Refuses limits that end a fit before its first step: it would export what it began with, like a success.

    Raises:
        ConfigError: a limit is 0.
    """
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if getattr(trainer, name) == 0:
            raise ConfigError(f"trainer.{name} is 0, so nothing would be trained: raise it, or leave it out.")


def choose_accelerator(chosen: Any) -> Any:
    """What the trainer computes on: with ``auto`` a CPU unless there is CUDA, where Lightning would look for others.

    Raises:
        ConfigError: it is an Apple GPU, which has no float64, or a TPU, for which nothing here is made.
    """
    cuda = CUDAAccelerator.is_available()
    if chosen in ("mps", "tpu") or (chosen == "gpu" and not cuda and MPSAccelerator.is_available()):
        raise ConfigError(f"trainer.accelerator is {chosen}, {ONLY_CUDA}")
    return "cpu" if chosen == "auto" and not cuda else chosen


def check_trainer(trainer: Trainer) -> None:
    """Refuses what would look at the training data before the first iteration has made any, or wait for a validation.

    Raises:
        ConfigError: a setting or a callback of the trainer cannot work with rollouts.
    """
    limit = trainer.limit_train_batches
    if isinstance(limit, float) and 0 < limit < 1:
        raise ConfigError(
            f"trainer.limit_train_batches is {limit}, a fraction of an iteration's batches, but how many there are "
            "depends on what it keeps: give a number of batches, or lower rollout.interval."
        )
    # By the clock, Lightning leaves the interval unset.
    for name in ("check_val_every_n_epoch", "val_check_interval"):
        if getattr(trainer, name, None) != 1:
            raise ConfigError(
                f"trainer.{name} is set, but with rollouts the dynamics take the place of a validation, after every "
                "iteration: leave it out; rollout.dynamics and the size of data.validation say what they take."
            )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it so that mypy does not see it
        name = f"trainer.callbacks has {type(callback).__name__}"
        if isinstance(callback, LearningRateFinder | BatchSizeFinder):
            raise ConfigError(
                f"{name}, which trains before the first iteration has made any data: use it in a fit without rollout, "
                "e.g. on the warm-up's data, and take it out here."
            )
        if isinstance(callback, WeightAveraging):
            raise ConfigError(
                f"{name}, which exports an average, while rollouts and dynamics are of the weights that it averages: "
                "take it out of a fit with rollouts."
            )
