"""Steps whose gradients are not numbers: skipped, counted, and after a few in a row the end of the fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from mstar.atomic import atomic_path
from mstar.errors import ConfigError
from mstar.models.finite import find_nonfinite, nonfinite_error, require_finite

_log = logging.getLogger(__name__)

# Steps skipped in a row at which the fit ends.
_MOST_IN_A_ROW: Final = 5


class FiniteSteps(Callback):
    """Skips optimizer steps with a NaN or an infinite number among their gradients, which would spoil the weights.

    A skipped step changes neither weights nor the optimizer's state; the schedule goes on. ``train/skipped_steps``
    counts them. After a few in a row the fit ends, and the last batch is saved in the run's folder ``nonfinite``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._in_a_row = 0
        self._skipped = 0
        self._batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remembers the batch."""
        self._batch = batch

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Looks at the gradients, and where they are no numbers at the weights: from such weights nothing comes back.

        Without gradients, an optimizer leaves the weights alone.

        Raises:
            ConfigError: this is the last of too many steps in a row, or the weights are not finite.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        # In half precision, Lightning's loss scaling skips steps itself, and some are a part of how it works.
        if trainer.precision == "16-mixed" or _are_finite([p.grad for p in parameters if p.grad is not None], trainer):
            self._in_a_row = 0
            return
        if not _are_finite(parameters, trainer):
            consequence = f"step {trainer.global_step} cannot be trained"
            require_finite(pl_module.named_parameters(), consequence)
            raise nonfinite_error("a part on another process", consequence)
        for parameter in parameters:
            parameter.grad = None
        self._in_a_row += 1
        self._skipped += 1
        pl_module.log("train/skipped_steps", float(self._skipped))
        if trainer.is_global_zero:
            _log.warning("step %d is skipped: its gradients are not finite numbers", trainer.global_step)
        if self._in_a_row == _MOST_IN_A_ROW:
            name = f"batch-{trainer.global_step:06d}-{trainer.global_rank}.pt"
            path = Path(trainer.default_root_dir, "nonfinite", name)
            with atomic_path(path) as temporary:
                torch.save(_plain(self._batch), temporary)
            raise ConfigError(
                f"the gradients of {self._in_a_row} steps in a row were not finite numbers: lower model.lr, set "
                f"trainer.gradient_clip_val, or look for a flaw in the data; the last batch is in '{path}'."
            )

    def state_dict(self) -> dict[str, int]:
        """The counts."""
        return {"in_a_row": self._in_a_row, "skipped": self._skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on counting."""
        self._in_a_row, self._skipped = state_dict["in_a_row"], state_dict["skipped"]


def _are_finite(tensors: Sequence[Tensor], trainer: Trainer) -> bool:
    # Of sharded tensors every process has a part; they must all come to the same decision.
    finite = find_nonfinite((str(place), tensor) for place, tensor in enumerate(tensors)) is None
    return trainer.strategy.reduce_boolean_decision(finite, all=True)


def _plain(value: Any) -> Any:
    """A batch as dictionaries, lists and tensors, to be loaded with ``weights_only=True``."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
