"""Callbacks that watch what a run measures: EarlyStopping, and checkpoints of the best."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from torch.nn import Parameter

from mstar.callbacks.checkpoint import IterationCheckpoint
from mstar.callbacks.export import ExportCallback
from mstar.callbacks.iteration_log import IterationLog
from mstar.callbacks.rollout_progress import RolloutProgress
from mstar.callbacks.rollout_settings import RolloutSettings
from mstar.errors import ConfigError
from mstar.modules.optimization import configure, require_lasting
from mstar.modules.policy import PolicyModule
from mstar.trainer.fit_end import at_epoch_end


def call_watchers(
    trainer: Trainer, module: LightningModule, progress: RolloutProgress, log: IterationLog | None
) -> None:
    """Calls the watchers as at the end of the epoch that a checkpoint was written in, if they have not seen it yet.

    Args:
        trainer: The trainer, before anything is trained, or at the end of a fit that has nothing left to train.
        log: What was measured in that epoch.
    """
    if progress.unwatched is None or log is None:
        return
    log.recall()
    metrics = trainer.callback_metrics
    metrics.update({name: torch.tensor(value) for name, value in progress.unwatched.items() if name not in metrics})
    progress.unwatched = None
    # They put the epoch's number into names.
    with at_epoch_end(trainer):
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it so that mypy does not see it
            if isinstance(callback, EarlyStopping | Checkpoint) and not isinstance(callback, IterationCheckpoint):
                callback.on_train_epoch_end(trainer, module)


def check_watched(trainer: Trainer, policy: PolicyModule, settings: RolloutSettings, *, dynamics: bool) -> None:
    """Refuses what watches what a run with rollouts never measures, which would end it, or has not measured yet.

    Raises:
        ConfigError: a callback, or the schedule of the learning rate, does, or that may end before the run.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    places = [place for place, callback in enumerate(callbacks) if getattr(callback, "settings", None) is settings]
    weights = [Parameter(torch.zeros(1, 1))]
    made: Any = configure(weights, policy.lr, policy.optimizer_factory, policy.lr_scheduler_factory)
    schedule = made["lr_scheduler"] if isinstance(made, dict) else {}
    # How many steps an iteration takes depends on what it keeps.
    require_lasting(schedule.get("scheduler"), trainer.max_steps if trainer.max_steps >= 0 else math.inf)
    watching = [("model.lr_scheduler", schedule.get("monitor"))]
    for place, callback in enumerate(callbacks):
        watched = callback.export_best if isinstance(callback, ExportCallback) else getattr(callback, "monitor", None)
        watched = "dynamics/greedy_accuracy" if watched is True else watched
        watching.append((f"{type(callback).__name__} in trainer.callbacks", watched))
        if isinstance(watched, str) and places and place < places[0]:
            raise ConfigError(
                f"{watching[-1][0]} looks at an iteration before RolloutCallback has measured it: put it behind that."
            )
    for owner, watched in watching:
        if not isinstance(watched, str):
            continue
        name = f"{owner} watches '{watched}'"
        if watched.startswith("val/"):
            raise ConfigError(
                f"{name}, but with rollouts the dynamics take the place of a validation: watch "
                "dynamics/greedy_accuracy, or another of the dynamics."
            )
        if watched.startswith("dynamics/") and not dynamics:
            raise ConfigError(
                f"{name}, but no dynamics are measured: set data.validation, and leave rollout.dynamics on."
            )
