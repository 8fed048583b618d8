"""One checkpoint an iteration."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, tensor

__all__ = ["IterationCheckpoint"]


class IterationCheckpoint(ModelCheckpoint):
    """Saves ``checkpoints/iteration-0001.ckpt`` and so on under the run's folder, and ``last.ckpt``.

    It saves at the end of an epoch only: a checkpoint that Lightning writes at the last step of an epoch resumes into a
    lost epoch (lightning 2.6).

    Args:
        keep_all: Whether every iteration's checkpoint is kept; otherwise only the last one.
        every: Iterations between two checkpoints.
    """

    def __init__(self, keep_all: bool = False, every: int = 1) -> None:
        super().__init__(
            filename="iteration-{iteration:04.0f}",
            auto_insert_metric_name=False,
            save_top_k=-1 if keep_all else 1,
            save_last=True,
            every_n_epochs=every,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Puts the checkpoints beside the iterations, not into a logger's version folder."""
        self.dirpath = _folder(trainer)
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has an iteration without an optimizer step saved too; Lightning goes by the number of steps alone."""
        self._last_global_step_saved = -1

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        # ``--ckpt_path last`` is looked up before setup.
        self.dirpath = _folder(trainer)
        return super()._find_last_checkpoints(trainer)

    def _monitor_candidates(self, trainer: Trainer) -> dict[str, Tensor]:
        return super()._monitor_candidates(trainer) | {"iteration": tensor(trainer.current_epoch + 1)}


def _folder(trainer: Trainer) -> str:
    return str(Path(trainer.default_root_dir) / "checkpoints")
