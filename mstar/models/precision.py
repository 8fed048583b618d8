"""In which type a model computes: one decision of a run, from ``trainer.precision`` and the type of the weights.

Training, rollouts, scoring and evaluation all compute within the context of the same ``Precision``, so that one policy
is never measured in two of them.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import torch

from mstar.distributed import is_main
from mstar.errors import ConfigError

_log = logging.getLogger(__name__)

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# By what Lightning calls them: the type that the whole model is converted to, or that autocast computes in.
_CONVERTED: Final = {"bf16-true": torch.bfloat16, "16-true": torch.float16}
_MIXED: Final = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, slots=True)
class Precision:
    """The types that a model is stored and computes in.

    Attributes:
        weights: Type of the stored weights. Adapters and the head of an MPRM are float32 whatever it is.
        mixed: Whether autocast is on even over weights of the type that it computes in: it keeps sums, norms and
            adapters in float32.
    """

    weights: torch.dtype = torch.float32
    compute: torch.dtype = torch.float32
    mixed: bool = False

    @classmethod
    def of(cls, trainer_precision: str, weights: torch.dtype) -> Precision:
        """What follows from a trainer's precision.

        Args:
            trainer_precision: Lightning's name of it. With 32-true, weights compute in their own type.

        Raises:
            ConfigError: the precision is none that rollouts could share.
        """
        if trainer_precision == "32-true":
            return cls(weights, weights)
        if trainer_precision in _CONVERTED:
            return cls(_CONVERTED[trainer_precision], _CONVERTED[trainer_precision])
        if trainer_precision in _MIXED:
            return cls(weights, _MIXED[trainer_precision], mixed=True)
        known = ", ".join(["32-true", *_MIXED, *_CONVERTED])
        raise ConfigError(f"trainer.precision '{trainer_precision}' is not supported: choose one of {known}.")

    @property
    def autocasts(self) -> bool:
        """Whether ``context`` turns autocast on."""
        return self.mixed or self.compute != self.weights

    @property
    def name(self) -> str:
        """What it computes in, in words."""
        return f"{name_of(self.compute)} (autocast)" if self.autocasts else name_of(self.compute)

    def over(self, weights: torch.dtype) -> Precision:
        """How another model computes beside this one: under the same autocast, else in the type of its own weights."""
        return Precision(weights, self.compute, self.mixed) if self.autocasts else Precision(weights, weights)

    def context(self, device: torch.device | str) -> AbstractContextManager[object]:
        """What the model computes within.

        As Lightning's, the autocast keeps no converted weights: what is computed within it does not depend on how long
        it lasts. The Transformers engine makes 16-bit copies of its own while it writes.
        """
        if not self.autocasts:
            return nullcontext()
        return torch.autocast(torch.device(device).type, dtype=self.compute, cache_enabled=False)

    def __str__(self) -> str:
        return f"{self.name} with weights in {name_of(self.weights)}"


def name_of(dtype: torch.dtype) -> str:
    """A type's name, as configurations have it."""
    return str(dtype).removeprefix("torch.")


def half_type() -> torch.dtype:
    """The 16-bit type that the present GPU computes in: bfloat16, or float16 where that would only be emulated."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def choose_precision(given: str | int | None) -> str | int:
    """A trainer's precision on CUDA: 16 bits unless one is given."""
    if given is None:
        return "bf16-mixed" if half_type() == torch.bfloat16 else "16-mixed"
    warn_of_emulation("trainer.precision", str(given), "16-mixed", "cuda")
    return given


def warn_of_emulation(setting: str, given: str, instead: str, device: torch.device | str) -> None:
    """Warns where bfloat16 is asked for and the GPU only emulates it."""
    asked = given.startswith(("bf16", "bfloat16")) and torch.device(device).type == "cuda"
    if asked and half_type() != torch.bfloat16 and is_main():
        _log.warning("%s is %s, which this GPU only emulates: --%s %s is faster.", setting, given, setting, instead)


def resolve_dtype(name: str, device: torch.device | str) -> str:
    """The type that ``auto`` stands for where nothing is trained: 16 bits on CUDA, else float32; others stay."""
    if name != "auto":
        return name
    return name_of(half_type() if torch.device(device).type == "cuda" else torch.float32)


def allow_tensor_cores(device: torch.device | str) -> None:
    """Has a GPU multiply float32 matrices in TF32, as cuDNN's convolutions do by default; a CPU goes on as it was."""
    if torch.device(device).type == "cuda":
        torch.set_float32_matmul_precision("high")
