"""What a run leaves for the next call of the same command: its configuration, and that it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from mstar.atomic import atomic_path
from mstar.storage import read_json, write_json

__all__ = ["CONFIG", "RunRecord", "is_finished"]

CONFIG: Final = "config.yaml"
_FINISHED: Final = "finished.json"


class RunRecord(SaveConfigCallback):
    """Writes ``config.yaml`` when a fit begins and ``finished.json`` when it is done, into the run's folder."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the configuration of a fit; another command in the same folder leaves it alone."""
        if stage != "fit":
            return
        root = Path(trainer.default_root_dir)
        (root / _FINISHED).unlink(missing_ok=True)
        # What a process left behind that was killed while it wrote a file.
        for pattern in ("iterations/*/.*", "checkpoints/.*", f".{CONFIG}.*", f".{_FINISHED}.*"):
            for unfinished in filter(Path.is_file, list(root.glob(pattern))):
                unfinished.unlink()
        with atomic_path(root / CONFIG) as path:
            path.write_text(self.parser.dump(self.config, skip_unset=False), encoding="utf-8")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has TensorBoard forget what a killed run logged after its last checkpoint: it is logged again."""
        logger = trainer.logger
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            # Iterations are steps too, in their own tags, and may be more than the optimizer's steps.
            first = max(trainer.global_step, trainer.current_epoch + 1)
            writer = logger.experiment.file_writer
            writer.add_event(Event(step=first, file_version="brain.Event:2"))
            writer.add_event(Event(step=first, session_log=SessionLog(status=SessionLog.START)))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes down that the fit is done, after the export; one that ran out of ``trainer.max_time`` is not."""
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        if any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers):
            return
        if trainer.is_global_zero:
            write_json(
                Path(trainer.default_root_dir) / _FINISHED,
                {
                    "epochs": trainer.current_epoch,
                    "steps": trainer.global_step,
                    "max_epochs": trainer.max_epochs,
                    "max_steps": trainer.max_steps,
                },
            )


def is_finished(root: Path, max_epochs: int | None, max_steps: int) -> bool:
    """Whether a run is done, by these limits.

    Args:
        root: The run's folder.
        max_epochs: Epochs to train for; -1 or none for no limit.
        max_steps: Optimizer steps to train for; -1 for no limit.
    """
    path = root / _FINISHED
    if not path.exists():
        return False
    done = read_json(path)
    if (done["max_epochs"], done["max_steps"]) == (max_epochs, max_steps):
        return True
    enough_epochs = max_epochs is not None and 0 <= max_epochs <= int(done["epochs"])
    return enough_epochs or 0 <= max_steps <= int(done["steps"])
