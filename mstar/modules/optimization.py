"""Optimizer and learning-rate schedule: injected by the configuration, counted in optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.optim.lr_scheduler import ReduceLROnPlateau as TorchReduceLROnPlateau

from mstar.distributed import world_size
from mstar.errors import ConfigError, require_least
from mstar.models.weight_steps import check_steps


class WarmupSchedule(LambdaLR):
    """Linear warm-up, then constant, with an optional linear decay or one drop, all counted in optimizer steps.

    The length of an epoch changes with every iteration, so nothing here depends on it.

    Args:
        optimizer: The optimizer.
        warmup_steps: Steps over which the rate rises from 0 to its full value.
        drop_at: Step from which the rate is multiplied by ``drop_factor``; None for never.
        drop_factor: The multiplier after ``drop_at``.
        decay_until: Step at which a linear decay, begun after the warm-up, reaches 0; None for no decay.

    Raises:
        ConfigError: ``warmup_steps`` is negative, or the decay ends before the warm-up does.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int = 0,
        drop_at: int | None = None,
        drop_factor: float = 0.5,
        decay_until: int | None = None,
    ) -> None:
        require_least("WarmupSchedule: ", 0, warmup_steps=warmup_steps)
        if decay_until is not None and decay_until <= warmup_steps:
            raise ConfigError(
                f"WarmupSchedule: decay_until is {decay_until}, but the warm-up alone takes {warmup_steps} steps; "
                "raise decay_until."
            )

        def factor(step: int) -> float:
            value = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
            if drop_at is not None and step >= drop_at:
                value *= drop_factor
            if decay_until is not None and step >= warmup_steps:
                value *= max(0.0, (decay_until - step) / (decay_until - warmup_steps))
            return value

        super().__init__(optimizer, factor)


def configure(
    parameters: Iterable[Parameter],
    lr: float,
    optimizer: OptimizerCallable,
    lr_scheduler: LRSchedulerCallable | None,
    name: str = "model.lr",
    trainer: Trainer | None = None,
) -> OptimizerLRScheduler:
    """Builds what ``configure_optimizers`` returns.

    Args:
        parameters: The module's parameters; frozen ones are left out (an optimizer state that never fills breaks the
            resuming of sharded checkpoints).
        lr: Learning rate; it takes precedence over an ``lr`` among the optimizer's own arguments.
        lr_scheduler: Makes the schedule from the optimizer, stepped once an optimizer step (one that looks at a
            metric, once an epoch); None for a constant rate.
        name: What ``lr`` is called in the configuration.
        trainer: Whose steps a schedule of so many must last for, once its fit has begun; none is not looked at.

    Raises:
        ConfigError: every parameter is frozen, ``lr`` is not positive, it cannot move weights of 16 bits, the optimizer
            or the schedule refuses its arguments, or the schedule ends before the fit.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if not trainable:
        raise ConfigError("freeze: every parameter of the model is frozen, so nothing can be trained; freeze less.")
    if not lr > 0:
        raise ConfigError(f"{name} is {lr}, but a learning rate must be positive.")
    try:
        made = optimizer(trainable, lr=lr)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        # What it was configured with besides; Transformers' Adafactor, for one, takes no rate unless it is told so.
        raise ConfigError(f"the optimizer refuses its settings, {name} {lr} among them: {error}") from error
    if world_size() == 1:
        # Of sharded weights a process has a part; the command line has looked at the whole of them before.
        check_steps(made, name)
    if lr_scheduler is None:
        return made
    scheduler = lr_scheduler(made)
    if isinstance(scheduler, OneCycleLR) and trainer is not None:
        # With rollouts the batches are not known yet, and the limit has been looked at before.
        limited = 0 <= trainer.max_steps <= scheduler.total_steps
        require_lasting(scheduler, trainer.max_steps if limited else trainer.estimated_stepping_batches)
    if not isinstance(scheduler, TorchReduceLROnPlateau):
        return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
    if not isinstance(scheduler, ReduceLROnPlateau):
        raise ConfigError(
            "ReduceLROnPlateau needs to know what it looks at: choose lightning.pytorch.cli.ReduceLROnPlateau, and "
            "give its monitor: train/loss, or dynamics/greedy_accuracy with rollouts, val/accuracy without."
        )
    # What it looks at is known at the end of an epoch.
    return {
        "optimizer": made,
        "lr_scheduler": {"scheduler": scheduler, "interval": "epoch", "monitor": scheduler.monitor},
    }


def require_lasting(scheduler: object, steps: float) -> None:
    """Refuses a schedule of fewer steps than there will be, which would end the fit by a traceback.

    Raises:
        ConfigError: it has fewer.
    """
    if isinstance(scheduler, OneCycleLR) and steps > (total := scheduler.total_steps):
        mend = "set trainer.max_steps to it, or take WarmupSchedule(decay_until=...)"
        if math.isfinite(steps):
            mend = f"set it to {steps}, the steps that there will be"
        raise ConfigError(
            f"lr_scheduler {type(scheduler).__name__} has total_steps {total}, and none after them: {mend}."
        )
