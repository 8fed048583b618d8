"""Where a fit ends, and by which limit: by some of them an epoch ends before its last batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer


def count_by_epochs(trainer: Trainer) -> None:
    """Has Lightning go on from a checkpoint in the same way whether steps are limited or epochs are.

    With ``max_steps`` it takes every checkpoint for one within an epoch, so that an epoch that was over is ended again
    without having begun (2.6).
    """
    trainer.fit_loop._iteration_based_training = _never  # type: ignore[method-assign]


def ends_now(trainer: Trainer) -> bool:
    """Whether the fit ends after the present batch, wherever in its epoch that is."""
    return _has_reached(trainer.global_step, trainer.max_steps) or (
        trainer.should_stop and trainer.fit_loop._can_stop_early
    )


def ends_after_epoch(trainer: Trainer) -> bool:
    """Whether the fit ends after the present epoch, at whose end this is asked."""
    return ends_now(trainer) or _has_reached(trainer.current_epoch + 1, trainer.max_epochs)


def is_over(trainer: Trainer, steps: int) -> bool:
    """Whether a fit that goes on within an epoch, after so many steps, has no steps or no time left."""
    return _has_reached(steps, trainer.max_steps) or _has_used_its_time(trainer)


def is_cut_short(trainer: Trainer) -> bool:
    """Whether the epoch that has just ended did so before its last batch."""
    loop = trainer.fit_loop.epoch_loop
    # One without batches, of whose length Lightning knows nothing, is over when it begins.
    empty = loop.batch_progress.current.ready == 0 and math.isinf(trainer.num_training_batches)
    return not empty and not loop._num_ready_batches_reached()


@contextmanager
def at_epoch_end(trainer: Trainer) -> Iterator[None]:
    """Within it, a fit that goes on from the end of an epoch is there again: the epoch is not completed yet."""
    progress: Any = trainer.fit_loop.epoch_progress
    counts = (progress.current, progress.total)
    for count in counts:
        count.completed = count.processed - 1
    yield
    for count in counts:
        count.completed = count.processed


def find_limit(trainer: Trainer) -> str:
    """The setting that ended the fit, or the name of the callback that did."""
    if _has_reached(trainer.global_step, trainer.max_steps):
        return "trainer.max_steps"
    if _has_reached(trainer.current_epoch, trainer.max_epochs):
        return "trainer.max_epochs"
    if _has_used_its_time(trainer):
        return "trainer.max_time"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it so that mypy does not see it
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            return type(callback).__name__
    return "trainer.should_stop"


def time_used(trainer: Trainer) -> tuple[float, float] | None:
    """The seconds that a run has trained for, earlier calls included, and those that it may; None without a limit."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None:
            return callback.time_elapsed(), callback.time_elapsed() + left
    return None


def _has_used_its_time(trainer: Trainer) -> bool:
    used = time_used(trainer)
    return used is not None and used[0] >= used[1]


def _never() -> bool:
    return False


def _has_reached(done: int, limit: int | None) -> bool:
    return limit is not None and 0 <= limit <= done
