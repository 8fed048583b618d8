"""Ending a fit by SIGTERM, SIGINT and SLURM's warning, without Lightning's own handlers."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, Final

from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mstar.callbacks.checkpoint import IterationCheckpoint
from mstar.distributed import announce_stop
from mstar.interruption import Interrupted, listen, requested, stop_if_asked
from mstar.process_start import end_with_parent

_log = logging.getLogger(__name__)

# In the environment: the process that starts others.
_STARTED_BY: Final = "MSTAR_STARTED_BY"


class StopOnSignal(Callback):
    """Has the process's signals noted rather than handled by Lightning, and passes them on when the fit ends by one.

    Lightning's SIGTERM handler talks to the other processes from within the handler, which can hang, and its SLURM
    handler saves in the middle of a step. IterationCheckpoint writes the checkpoint instead, and then ends the fit.

    Args:
        requeues: Whether SLURM's warning puts the job in the queue again; not within another fit, which does so too.
    """

    def __init__(self, requeues: bool = True) -> None:
        super().__init__()
        self.requeues = requeues
        self._at_once = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds out whether a checkpoint is waited for."""
        self._at_once = not any(isinstance(callback, IterationCheckpoint) for callback in trainer.checkpoint_callbacks)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Ends a fit without checkpoints."""
        if self._at_once:
            stop_if_asked()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals back; Lightning restores them after the fit."""
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            listen()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the fit between two epochs."""
        stop_if_asked()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Has the other processes of this machine stop too, and puts a SLURM job in the queue again."""
        if not isinstance(exception, Interrupted):
            return
        announce_stop(exception.received)
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(exception.received)
            # Whatever they end with, Lightning's observer must not kill this process for it: its own status counts.
            launcher.procs.clear()
        if self.requeues and exception.received == signal.SIGUSR1 and trainer.is_global_zero:
            requeue()


def end_with_the_others() -> None:
    """Has a process whose children end by a signal end by it too, whatever it waits for, with the status that tells so.

    Lightning's observer kills it otherwise, so that a job that was asked to stop seems to have failed.
    """
    _ChildProcessObserver._terminate_all = _end  # type: ignore[assignment, method-assign]


def end_with_the_first() -> None:
    """Has a process that Lightning started end with the one that it was started by, which may be killed.

    Else it draws until it waits for that one, maybe for hours, and writes into a run that has been started again.
    """
    first = os.environ.get(_STARTED_BY, "")
    if os.environ.get("LOCAL_RANK", "0") != "0" and first == str(os.getppid()):
        end_with_parent(int(first))
    os.environ[_STARTED_BY] = str(os.getpid())


def _end(observer: _ChildProcessObserver) -> None:
    received = requested() or _signal_of([child.returncode for child in observer._child_processes])
    for child in observer._child_processes:
        child.kill()
    if received is None:
        os.kill(observer._main_pid, signal.SIGKILL)
        return
    os.write(2, f"mstar: stopped by {received.name}, as a process that it had started was\n".encode())
    os._exit(128 + received)


def _signal_of(codes: Sequence[int | None]) -> signal.Signals | None:
    """The signal that the first failed process was asked to stop by, from the statuses of some; None for errors."""
    code = next((code for code in codes if code), None)
    asked = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
    return next((number for number in asked if code in (128 + number, -number)), None)


def requeue() -> None:
    """Has SLURM put this job in the queue again."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{task}" if job else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", name], check=True)  # noqa: S603, S607 - SLURM's own, found as it is there
    except (OSError, subprocess.CalledProcessError) as error:
        # The checkpoint is written; that the job is not started again by itself must not hide that.
        _log.warning("SLURM job %s could not be put in the queue again (%s): submit it again", name, error)
