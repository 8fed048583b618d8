"""What optimizers keep for every trained weight, by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class OptimizerCost:
    """Bytes of an optimizer.

    Attributes:
        state: Bytes a trained weight, in multiples of the weight's own size.
        fixed: Bytes a trained weight, whatever its type.
        copies: Copies of all the trained weights that a step makes on a GPU, where it takes all weights at a time.
        known: Whether the class is known; an unknown one counts like AdamW.
    """

    state: float
    fixed: float = 0.0
    copies: float = 0.0
    known: bool = True


_COSTS: Final = {
    "Adam": OptimizerCost(2.0, copies=1.0),
    "AdamW": OptimizerCost(2.0, copies=1.0),
    "Adafactor": OptimizerCost(0.0, copies=1.0),
    "SGD": OptimizerCost(0.0),
    # One byte for each of two states, and a scale for every 256 of them.
    "AdamW8bit": OptimizerCost(0.0, fixed=2.03),
    "Adam8bit": OptimizerCost(0.0, fixed=2.03),
    "PagedAdamW8bit": OptimizerCost(0.0, fixed=2.03),
    "PagedAdam8bit": OptimizerCost(0.0, fixed=2.03),
    "PagedAdamW": OptimizerCost(2.0),
    "PagedAdamW32bit": OptimizerCost(0.0, fixed=8.0),
    "Lion8bit": OptimizerCost(0.0, fixed=1.015),
}


def cost_of(class_path: str, *, momentum: bool = False, amsgrad: bool = False, fused: bool = False) -> OptimizerCost:
    """What an optimizer keeps."""
    package, _, name = class_path.rpartition(".")
    found = _COSTS.get(name, OptimizerCost(2.0, copies=1.0, known=False))
    state = found.state + (1.0 if momentum else 0.0) + (1.0 if amsgrad else 0.0)
    if package.startswith("bitsandbytes") and not found.fixed:
        # Its kernels keep states in float32 whatever the weight's type, and take one weight at a time.
        return OptimizerCost(0.0, fixed=4.0 * state, known=found.known)
    return OptimizerCost(state, found.fixed, 0.0 if fused else found.copies, found.known)
