"""The bar of training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import convert_inf


class TrainingBar(TQDMProgressBar):
    """Lightning's bar, which knows its epoch and its total after a resume within an epoch too."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Says what Lightning says when an epoch begins, if it has not begun in this process."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        bar = self.train_progress_bar
        if bar.total is not None:
            return
        # Of a fit that max_steps limits, Lightning's total is what is left from this step on.
        total = convert_inf(min(trainer.num_training_batches, batch_idx + self.total_train_batches))
        if total is not None:
            # What was trained before says nothing of the speed.
            bar.total, bar.initial, bar.n = total, batch_idx, batch_idx
            bar.set_description(f"Epoch {trainer.current_epoch}")
