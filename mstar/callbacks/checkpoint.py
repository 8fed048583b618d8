"""Checkpoints at the end of every iteration, within one, and when the process is asked to stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from signal import Signals
from typing import Any, Final

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from mstar.atomic import sync
from mstar.datamodules.resumable import ResumableLoader
from mstar.distributed import gather_lists, rank, wait_for_all, world_size
from mstar.errors import ConfigError, require_least
from mstar.interruption import Interrupted, hold_back, requested
from mstar.trainer.checkpoint_files import copy, link, named_checkpoints, remove, replace
from mstar.trainer.checkpoint_io import LAST, PREVIOUS, AtomicCheckpointIO
from mstar.trainer.fit_end import at_epoch_end, count_by_epochs, ends_after_epoch, ends_now, is_cut_short
from mstar.trainer.random_state import random_state, restore_random_state

_log: Final = logging.getLogger(__name__)


class IterationCheckpoint(Checkpoint):
    """Saves ``checkpoints/iteration-0001.ckpt`` and so on under the run's folder, and ``last.ckpt``.

    A checkpoint is written beside its place and takes it when it is whole; the one before stays as ``previous.ckpt``.
    SIGTERM, SIGINT and, in a SLURM job, SIGUSR1 have one written after the present step and end the fit. So they do
    after the present batch of the validation at the end of an epoch, which is then begun anew. One is also written
    where the fit ends: a limit that ends it within an epoch can be raised, and the epoch goes on. A ModelCheckpoint
    may stand beside it, and does not take its place.

    Args:
        keep_all: Whether every iteration's checkpoint is kept.
        keep_last: Otherwise, of how many iterations, the latest, it is. A second one takes no room of its own:
            ``last.ckpt`` and ``previous.ckpt`` share theirs with those of the last two iterations, or are all there is
            of them where the file system has no hard links. On the disk are at most as many checkpoints as this, or
            two, and the one that is being written; with ``every_n_steps``, two more than this and that one.
        every: Iterations between two checkpoints.
        every_n_steps: Optimizer steps between two checkpoints within an iteration; none for the ends of iterations
            only. Worth it where an iteration trains for longer than one would like to repeat.

    Raises:
        ConfigError: a number is below 1.
    """

    def __init__(
        self, keep_all: bool = False, every: int = 1, every_n_steps: int | None = None, keep_last: int = 1
    ) -> None:
        require_least("IterationCheckpoint: ", every=every, every_n_steps=every_n_steps, keep_last=keep_last)
        self.keep_all = keep_all
        self.keep_last = keep_last
        self.every = every
        self.every_n_steps = every_n_steps
        self._saved_at = -1
        self._ended = -1
        self._whole = True
        self._loaded: list[dict[str, Any]] = []
        self._plateaus: dict[str, float | None] = {}
        self._trained: dict[str, Any] | None = None
        self._stop: Signals | None = None
        self._unflushed = False
        self._ends_after_step = False
        self._ended_before_validation = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Has checkpoints written and read with care, unless the strategy brings its own way.

        Raises:
            ConfigError: they would be written by another thread.
        """
        count_by_epochs(trainer)
        if isinstance(trainer.strategy.checkpoint_io, AsyncCheckpointIO):
            raise ConfigError(
                "trainer.plugins has AsyncCheckpointIO, which says that a checkpoint is written before it is, but a "
                "run goes on only from one that is whole: drop it."
            )
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the random numbers, this late because Lightning itself draws some before the first batch.

        At the end of an epoch, schedulers that look at a metric (ReduceLROnPlateau) do now what they were to do next.

        Raises:
            ConfigError: the checkpoint was written within an epoch by another number of processes.
        """
        states, self._loaded = self._loaded, []
        if states and not self._whole and len(states) != world_size():
            raise ConfigError(
                f"the checkpoint was written within an epoch by {len(states)} processes, whose shares of the data are "
                f"not those of {world_size()}: go on with {len(states)}, or from the end of an iteration (--ckpt_path "
                "checkpoints/iteration-....ckpt)."
            )
        if states:
            own = states[rank() % len(states)]
            restore_random_state(own)
            # The validation is to be done again, and may be stopped again.
            self._trained = own if not self._whole and trainer.is_last_batch else None
        watched, self._plateaus = self._plateaus, {}
        _step_plateaus(trainer, watched)
        self._saved_at = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Ends the fit after a checkpoint that a signal asked for; Lightning has logged its step only now."""
        if self._unflushed:
            _flush(trainer)
            self._unflushed = False
        if self._stop is not None:
            raise Interrupted(self._stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves within an epoch, between two optimizer steps; a fit that is told to end does so there, too."""
        # Not at the last step: Lightning would resume into the next epoch without beginning it (2.6), and the
        # checkpoint at the end of the epoch follows at once, or after the validation.
        if trainer.is_last_batch and trainer._val_check_time_interval is None:  # type: ignore[attr-defined]
            # A validation by the clock would not be due on resuming, and Lightning would train another batch instead.
            self._trained = random_state()
        if self._is_within_step(trainer) or trainer.is_last_batch:
            return
        stop = _agree_to_stop(trainer)
        step = trainer.global_step
        due = self.every_n_steps is not None and step % self.every_n_steps == 0 and step != self._saved_at
        # Of what Lightning validates only because it was told to stop, nothing may be in the checkpoint.
        self._ended_before_validation = trainer.should_stop
        if due or stop or ends_now(trainer):
            self._save(trainer, whole=False)
            self._stop, self._unflushed = stop, True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has a signal wait for the end of a batch: what was trained since the last checkpoint is not written yet."""
        hold_back(trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking)
        # The batch that a validation to be done again seemed to have started.
        total: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
        total.ready = total.started = total.processed

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Saves if the process was asked to stop in the validation at the end of an epoch."""
        if self._trained is None:
            return
        stop = _agree_to_stop(trainer)
        if stop:
            # The training is over, which Lightning knows by itself; that the validation is not, by a batch that was
            # started and not processed (2.6). It is the first one, so that all of the validation is done again.
            progress: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            before = progress.total.completed - progress.current.completed
            progress.reset_on_run()
            progress.total.processed = progress.total.completed = before
            progress.total.ready = progress.total.started = before + 1
            _flush(trainer)
            self._save(trainer, whole=False)
            raise Interrupted(stop)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets signals be acted on at once again, and saves if what was measured ends the fit within an epoch."""
        hold_back(False)
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or trainer.is_last_batch:
            return
        if not self._ended_before_validation and not self._is_within_step(trainer) and ends_now(trainer):
            self._save(trainer, whole=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same."""
        hold_back(False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves at the end of an iteration, unless it is to be gone on with: then that is done already.

        Once: rollouts ask for it before they measure what was trained.
        """
        self._trained = None
        # Else a scheduler would not look at its metric at the end of an epoch that was gone on with (2.6).
        trainer.fit_loop._restarting = False
        stop = _agree_to_stop(trainer)
        due = (trainer.current_epoch + 1) % self.every == 0 or ends_after_epoch(trainer) or stop
        if due and self._ended != trainer.current_epoch and not is_cut_short(trainer):
            _flush(trainer)
            self._save(trainer, whole=True)
            self._ended = trainer.current_epoch
        if stop:
            raise Interrupted(stop)

    def state_dict(self) -> dict[str, Any]:
        """The random numbers of every process, and where in the epoch this is; primitives and tensors only."""
        # Of a validation, what was before it.
        return {"random": gather_lists([self._trained or random_state()]), "whole": self._whole}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._loaded = state_dict["random"]
        self._whole = state_dict["whole"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the metrics that schedulers look at, if they are still to do so: at the end of an epoch (2.6)."""
        progress: Any = trainer.fit_loop.epoch_progress.current
        if progress.completed < progress.processed and trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            metrics = trainer.callback_metrics
            names = [str(config.monitor) for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
            checkpoint["plateaus"] = {name: float(metrics[name]) if name in metrics else None for name in names}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes these metrics back."""
        self._plateaus = checkpoint.get("plateaus", {})

    def _is_within_step(self, trainer: Trainer) -> bool:
        """Whether gradients are being added up, which no checkpoint holds; then a fit that is to stop goes on a bit."""
        within = trainer.fit_loop.epoch_loop._should_accumulate() and not trainer.is_last_batch
        if trainer.should_stop or self._ends_after_step:
            self._ends_after_step, trainer.should_stop = within, not within
        return within

    def _save(self, trainer: Trainer, *, whole: bool) -> None:
        folder = checkpoint_folder(Path(trainer.default_root_dir))
        unfinished = folder / ".unfinished.ckpt"
        self._whole = whole
        if whole:
            _rewind(trainer)
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            remove(unfinished)
        wait_for_all()
        # Not by trainer.save_checkpoint: it waits for the process that writes as a step waits, and no longer (2.6).
        trainer.strategy.save_checkpoint(trainer._checkpoint_connector.dump_checkpoint(weights_only=False), unfinished)
        wait_for_all()
        if trainer.is_global_zero:
            if whole:
                self._keep(unfinished, trainer.current_epoch + 1)
            if (folder / LAST).exists():
                replace(folder / LAST, folder / PREVIOUS)
            replace(unfinished, folder / LAST)
            sync(folder)
        wait_for_all()
        self._saved_at = trainer.global_step

    def _keep(self, checkpoint: Path, iteration: int) -> None:
        """Gives the checkpoint of an iteration its name; it shares its content with ``last.ckpt``."""
        folder = checkpoint.parent
        named, temporary = folder / f"iteration-{iteration:04d}.ckpt", folder / ".named.ckpt"
        remove(temporary)
        if link(checkpoint, temporary):
            replace(temporary, named)
        elif self.keep_all or self.keep_last > 2 or self.every_n_steps is not None:
            copy(checkpoint, temporary)
            replace(temporary, named)
        else:
            # A copy would take as much again for a second name of what last.ckpt and previous.ckpt are anyway.
            _log.info("There are no hard links in '%s': iteration %d is kept as %s alone", folder, iteration, LAST)
        if self.keep_all:
            return
        # Those of later iterations were left by a run that went further and was begun again from an earlier one.
        others = [path for path in named_checkpoints(folder) if path != named]
        earlier = [path for path in others if path.name < named.name]
        stay = earlier[max(0, len(earlier) + 1 - self.keep_last) :]
        for other in others:
            if other not in stay:
                remove(other)


def write_iteration_checkpoint(trainer: Trainer, module: LightningModule) -> None:
    """Has the checkpoint of an iteration written now, before what else ends its epoch."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, IterationCheckpoint):
            callback.on_train_epoch_end(trainer, module)


def checkpoint_folder(root: Path) -> Path:
    """Where a run's checkpoints are."""
    return root / "checkpoints"


def check_checkpoint_path(given: str) -> None:
    """Makes sure that ``ckpt_path`` names a checkpoint, and says which one may be meant.

    Raises:
        ConfigError: it does not.
    """
    path = Path(given)
    # The two others are Lightning's own.
    if given in ("last", "best", "hpc") or path.is_file() or (path / "meta.pt").is_file():
        return
    if not path.exists():
        raise ConfigError(f"ckpt_path '{given}' does not exist: give a checkpoint's file, or 'last'.")
    found = find_checkpoint(path) or find_checkpoint(path.parent)
    if (path / "config.json").is_file():
        advice = "an exported model: give it as model.model_name, without ckpt_path"
    elif found is not None:
        advice = f"a folder: give '{found}', which is in it"
    else:
        advice = "a folder without a checkpoint: give a checkpoint's file"
    raise ConfigError(f"ckpt_path '{given}' is {advice}.")


def find_checkpoint(root: Path) -> Path | None:
    """The checkpoint that a run goes on from; None if it has none yet."""
    names = (checkpoint_folder(root) / name for name in (LAST, PREVIOUS))
    return next((path for path in names if path.exists()), None)


def _agree_to_stop(trainer: Trainer) -> Signals | None:
    """The signal to stop by; if one process has it, all have, so that they save together."""
    if not trainer.strategy.reduce_boolean_decision(requested() is not None, all=False):
        return None
    found = [signal for signal in gather_lists([requested()]) if signal is not None]
    return found[0]


def _step_plateaus(trainer: Trainer, watched: Mapping[str, float | None]) -> None:
    """Has schedulers look at their metrics as Lightning does at the end of an epoch, after its checkpoint (2.6)."""
    metrics = trainer.callback_metrics
    # Those that are there were measured after the checkpoint.
    metrics.update({n: torch.tensor(value) for n, value in watched.items() if value is not None and n not in metrics})
    if watched and watched.keys() <= metrics.keys():
        with at_epoch_end(trainer):
            trainer.fit_loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)


def _flush(trainer: Trainer) -> None:
    """What was logged before a checkpoint is not logged again after it, so it must not be lost in a buffer."""
    for logger in trainer.loggers:
        logger.save()


def _rewind(trainer: Trainer) -> None:
    """The next epoch begins with the first batch; Lightning asks the loaders where they are at the end of this one."""
    loader = trainer.fit_loop._combined_loader
    for part in loader.flattened if loader is not None else ():
        if isinstance(part, ResumableLoader):
            part.rewind()
