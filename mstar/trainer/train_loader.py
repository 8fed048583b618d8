"""Swapping the training data of a running fit."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Trainer

from mstar.types import Example

__all__ = ["replace_training_data"]


def replace_training_data(trainer: Trainer, examples: Sequence[Example], passes: int = 1) -> None:
    """Makes the epoch that is about to begin train on these examples; without any, the epoch has no steps.

    Lightning builds an epoch's loader before ``on_train_epoch_start``, and with the old epoch number when it resumes,
    so generating inside ``train_dataloader`` would run for the wrong epoch. Rebuilding the loader from here is the way
    that works (lightning 2.6; ``_combined_loader`` is private, hence the upper bound on its version).

    Args:
        trainer: The trainer, inside ``on_train_epoch_start``.
        examples: The new training data, in training order.
        passes: How often it is gone through.
    """
    trainer.datamodule.set_examples(examples, passes)  # type: ignore[attr-defined]
    loop = trainer.fit_loop
    loop._combined_loader = None
    loop.setup_data()
    if loop.max_batches == 0:
        # A loop with no batches would end the whole fit; one of unknown length just finds the epoch empty.
        loop.max_batches = float("inf")
