"""The precisions that are measured: of the stored weights, and of what is computed with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch

from mstar.models.precision import Precision

__all__ = ["BFLOAT16", "EXACT", "MIXED", "TF32", "Arithmetic", "computing"]


@dataclass(frozen=True)
class Arithmetic:
    """How a model computes.

    Attributes:
        name: As the report calls it.
        weights: Type of the stored weights.
        autocast: Whether products are computed in bfloat16 all the same (``trainer.precision: bf16-mixed``).
        tf32: Whether products of float32 numbers may be computed in TF32.
    """

    name: str
    weights: torch.dtype
    autocast: bool = False
    tf32: bool = False

    @property
    def trainer_precision(self) -> str:
        """Lightning's name of it."""
        return "bf16-mixed" if self.autocast else "32-true"


BFLOAT16: Final = Arithmetic("bfloat16 weights", torch.bfloat16)
MIXED: Final = Arithmetic("float32 weights, bf16-mixed", torch.float32, autocast=True)
TF32: Final = Arithmetic("float32, TF32", torch.float32, tf32=True)
EXACT: Final = Arithmetic("float32", torch.float32)


@contextmanager
def computing(arithmetic: Arithmetic, device: str) -> Iterator[None]:
    """Computes so within this context, as the callers of engines and scorers do."""
    before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if arithmetic.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = arithmetic.tf32
    try:
        with Precision.of(arithmetic.trainer_precision, arithmetic.weights).context(device):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = convolutions
