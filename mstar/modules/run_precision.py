"""What a module computes in: by its trainer's precision, and without a trainer by its weights."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer

from mstar.models.precision import DTYPES, Precision


def precision_of(trainer: Trainer | None, dtype: str) -> Precision:
    """The precision of a model that is loaded in ``dtype``, in a trainer's run or without one (an export)."""
    # An unknown type is refused where the model is loaded.
    return Precision.of("32-true" if trainer is None else trainer.precision, DTYPES.get(dtype, torch.float32))
