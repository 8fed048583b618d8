"""What a run leaves for whoever comes after it: its configuration, what its epochs reached, and that it is done."""

from __future__ import annotations

import math
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

import mstar
from mstar.atomic import write_text
from mstar.callbacks.config_check import CODE, CONFIG, find_own_code
from mstar.provenance import flatten
from mstar.storage import RunDirectory, read_json, write_json
from mstar.trainer.fit_end import find_limit, is_cut_short, time_used
from mstar.trainer.loggers import log_settings

_FINISHED: Final = "finished.json"


class RunRecord(SaveConfigCallback):
    """Writes ``config.yaml`` when a fit begins and ``finished.json`` when it is done, into the run's folder.

    With classes of the user's own, ``code.json`` has the hashes of their code.

    Every logger gets the configuration too, as hyperparameters. What an epoch reached on the validation data goes to
    ``validation.json``, from which a model's card is written, whatever logger there is.
    """

    _cut_short = False

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the configuration of a fit; another command in the same folder leaves it alone."""
        if stage != "fit":
            return
        root = Path(trainer.default_root_dir)
        (root / _FINISHED).unlink(missing_ok=True)
        # What a process left behind that was killed while it wrote a file.
        for pattern in ("iterations/*/.*", "checkpoints/.*", f".{CONFIG}.*", f".{CODE}.*", f".{_FINISHED}.*"):
            for unfinished in filter(Path.is_file, list(root.glob(pattern))):
                unfinished.unlink()
        text = self.parser.dump(self.config, skip_unset=False)
        write_text(root / CONFIG, f"# {_describe_version()}\n{text}")
        if own := find_own_code(text):
            write_json(root / CODE, own)
        for logger in trainer.loggers:
            log_settings(logger, dict(flatten(yaml.safe_load(text))))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets what a killed run measured after its last checkpoint, also in TensorBoard: it is measured again."""
        path = RunDirectory(Path(trainer.default_root_dir)).validation
        if trainer.is_global_zero and path.exists():
            rows = read_json(path)
            write_json(path, {epoch: row for epoch, row in rows.items() if int(epoch) <= trainer.current_epoch})
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if not isinstance(logger, TensorBoardLogger):
                continue
            # Iterations are steps too, in their own tags, and may be more than the optimizer's steps.
            first = max(trainer.global_step, trainer.current_epoch + 1)
            writer = logger.experiment.file_writer
            writer.add_event(Event(step=first, file_version="brain.Event:2"))
            writer.add_event(Event(step=first, session_log=SessionLog(status=SessionLog.START)))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes down what the epoch reached on the validation data."""
        metrics = trainer.callback_metrics
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not trainer.is_global_zero:
            return
        reached = {name: float(value) for name, value in metrics.items() if name.startswith(("val/", "mprm/"))}
        finite = {name: value for name, value in reached.items() if math.isfinite(value)}
        path = RunDirectory(Path(trainer.default_root_dir)).validation
        before = read_json(path) if path.exists() else {}
        write_json(path, before | {str(trainer.current_epoch + 1): finite})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes whether the epoch is over, or will be gone on with where the limit that ended it is raised."""
        self._cut_short = is_cut_short(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes down that the fit is done, after the export, and which limit ended it."""
        seconds, max_time = time_used(trainer) or (None, None)
        if trainer.is_global_zero:
            write_json(
                Path(trainer.default_root_dir) / _FINISHED,
                {
                    "epochs": trainer.current_epoch - self._cut_short,
                    "steps": trainer.global_step,
                    "seconds": seconds,
                    "limit": find_limit(trainer),
                    "max_epochs": trainer.max_epochs,
                    "max_steps": trainer.max_steps,
                    "max_time": max_time,
                },
            )


def find_finished(root: Path, trainer: Trainer) -> str | None:
    """What a run that is done was ended by, if the limits of a trainer let it do no more.

    Returns:
        The limit's name in the configuration, or that of the callback; None if the run is not done.
    """
    path = root / _FINISHED
    if not path.exists():
        return None
    done = read_json(path)
    _, max_time = time_used(trainer) or (None, None)
    # Without epochs, Lightning chooses.
    epochs = done["max_epochs"] if trainer.max_epochs is None else trainer.max_epochs
    limits = {"max_steps": trainer.max_steps, "max_epochs": epochs, "max_time": max_time}
    # The earliest versions wrote neither the time nor what ended it.
    reached = {"max_steps": done["steps"], "max_epochs": done["epochs"], "max_time": done.get("seconds")}
    for name, limit in limits.items():
        if limit is not None and reached[name] is not None and 0 <= limit <= reached[name]:
            return f"trainer.{name}"
    ended_by: str = done.get("limit", "")
    # A callback that is no longer there ends nothing.
    names = {type(callback).__name__ for callback in trainer.callbacks}  # type: ignore[attr-defined]
    again = ended_by.startswith("trainer.") or ended_by in names
    return ended_by if again and all(limit == done[name] for name, limit in limits.items()) else None


def _describe_version() -> str:
    """The version of mstar, with the commit where it lies in a checkout."""
    folder, commit = Path(mstar.__file__).resolve().parents[1], ""
    if (folder / ".git").exists():
        command = ["git", "--no-optional-locks", "-C", str(folder), "describe", "--always", "--dirty"]
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed
            commit = done.stdout.strip()
    return f"mstar {mstar.__version__}" + (f", commit {commit}" if commit else "")
