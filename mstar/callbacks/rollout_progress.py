"""Where a self-evolving run is: what its checkpoints hold beside weights, optimizer and temperature."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from mstar.callbacks.checkpoint import IterationCheckpoint, checkpoint_folder
from mstar.errors import ConfigError
from mstar.iteration.ahead import Ahead
from mstar.storage import RunDirectory
from mstar.trainer.checkpoint_files import named_checkpoints
from mstar.trainer.checkpoint_io import LAST, PREVIOUS


@dataclass
class RolloutProgress:
    """Where a run is; of primitives alone, so that a checkpoint of it loads with ``weights_only``.

    Attributes:
        refreshed: The MPRM that was retrained last, within the run's folder; None before there is one.
        iteration: The iteration that was begun last, from 1; None before the first.
        unwatched: What callbacks can watch of it beside its report, while they have not seen its end yet.
        trained_before: Seconds of training in it before the run was resumed.
        ahead: What is, or was, drawn ahead for the iteration after it; None if nothing is.
        training_began: When its training, or the part of it since then, began, by ``time.perf_counter``.
    """

    refreshed: str | None = None
    iteration: int | None = None
    in_training: bool = False
    unwatched: dict[str, float] | None = None
    trained_before: float = 0.0
    ahead: Ahead | None = None
    training_began: float = 0.0

    def begin_training(self, iteration: int) -> None:
        """Takes in that the examples of an iteration are now trained on."""
        self.iteration, self.in_training, self.trained_before = iteration, True, 0.0
        self.training_began = time.perf_counter()

    def go_on_training(self) -> None:
        """Takes in that training goes on where a checkpoint was written within an epoch."""
        self.training_began = time.perf_counter()

    @property
    def training_seconds(self) -> float:
        """How long the iteration's examples have been trained on."""
        return self.trained_before + time.perf_counter() - self.training_began

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        state = asdict(self) | {"trained_before": self.training_seconds if self.in_training else 0.0}
        del state["training_began"]
        return state

    @classmethod
    def is_in(cls, state: Mapping[str, Any]) -> bool:
        """Whether a checkpoint holds all of it; an older version's does not."""
        return cls().state_dict().keys() <= state.keys()

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Goes on from what a checkpoint holds, and says whether it could.

        A fit cannot go on from an older version's, and nothing else asks for it.
        """
        if not self.is_in(state):
            return False
        for name in self.state_dict():
            setattr(self, name, state[name])
        self.ahead = None if state["ahead"] is None else Ahead(**state["ahead"])
        return True


def check_resumable(state: Mapping[str, Any], seed: int, run: RunDirectory) -> None:
    """Makes sure that a run can go on from what a checkpoint holds.

    Raises:
        ConfigError: it is an older version's, was made with another seed, or is another run's.
    """
    if not RolloutProgress.is_in(state):
        raise ConfigError(
            "the checkpoint is an older version's, which a run cannot go on from: export it (mstar export), and start "
            "a new run from that (model.model_name)."
        )
    if state["seed"] != seed:
        raise ConfigError(
            f"rollout.seed is {seed}, but the checkpoint was made with {state['seed']}: the run would not go on as it "
            "began; set the seed back, or start a new run."
        )
    number = state["iteration"]
    if number is not None and not run.report(number).exists():
        raise ConfigError(
            f"the run in '{run.root}' has no iteration {number}, which the checkpoint was written in: go on in the "
            "folder of the checkpoint's own run (trainer.default_root_dir), or export it (mstar export) and start a "
            "new run from that (model.model_name)."
        )


def earliest_checkpoint(trainer: Trainer) -> int:
    """The earliest iteration that there may be a checkpoint of, once an iteration is saved; 0 if that is not known."""
    iteration = trainer.current_epoch + 1
    match trainer.checkpoint_callbacks:
        case [IterationCheckpoint(every=every)] if iteration % every == 0:
            folder = checkpoint_folder(Path(trainer.default_root_dir))
            named = named_checkpoints(folder)
            # Of one with a name of somebody's own it is not known.
            if set(folder.glob("[!.]*.ckpt")) <= {folder / LAST, folder / PREVIOUS, *named}:
                # previous.ckpt may be of the one before, and have no other name.
                return min([iteration - every, *(int(path.stem.removeprefix("iteration-")) for path in named)])
    return 0  # where a ModelCheckpoint has its files is its own business
