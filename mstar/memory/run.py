"""A run whose account is made: what it is, how large, where it runs, and what it holds from step to step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from mstar.memory.account import Amount
from mstar.memory.activations import Types
from mstar.memory.lengths import Lengths
from mstar.memory.plan import BYTES, Plan
from mstar.memory.shape import ModelShape

_FLOAT: Final = 4
# Bytes of a weight in 4 bits, with the scales of its blocks in 8 bits.
NF4: Final = 0.516


@dataclass(frozen=True)
class Parts:
    """One process's share of what stays from step to step, in bytes.

    Attributes:
        buckets: DDP's second copy of the gradients.
        copies: What the optimizer makes for the length of a step.
    """

    weights: int
    gradients: int
    states: int
    buckets: int
    copies: int

    def held(self) -> tuple[Amount, ...]:
        """What there is from step to step whatever is done."""
        # Paged states, too: once bitsandbytes has loaded them from a checkpoint, they stay on the GPU.
        return (
            Amount("weights", self.weights, certain=True),
            Amount("gradients", self.gradients, certain=True),
            Amount("optimizer states", self.states, certain=True),
        )


@dataclass(frozen=True)
class Run:
    """A plan with all that its account depends on beside it.

    Attributes:
        capacity: Bytes of one GPU, or on a CPU of the machine for one process; None if not known.
        local: GPUs, or processes, on a machine.
        base: On a CPU, what the process takes without a model.
        total: Rows of the training data, where that is known.
    """

    plan: Plan
    shape: ModelShape
    lengths: Lengths
    on_gpu: bool
    capacity: int | None
    local: int
    base: int
    total: int | None = None

    @property
    def processes(self) -> int:
        """GPUs, or processes, on all machines."""
        return self.local * self.plan.nodes

    @property
    def is_split(self) -> bool:
        """Whether its weights are split over several processes."""
        return self.plan.sharded and self.processes > 1

    @property
    def alone(self) -> Run:
        """The same in one process."""
        return replace(self, local=1, plan=replace(self.plan, nodes=1))

    @property
    def prompts(self) -> int | None:
        """Prompts of an iteration with rollouts, where they are known."""
        rollout = self.plan.rollout
        return None if self.total is None or rollout is None else ceil(self.total * rollout.interval)

    @property
    def types(self) -> Types:
        """Types of weights and products."""
        compute = self.plan.compute_dtype(self.on_gpu)
        mixed = compute != "float32" and not str(self.plan.precision).endswith("-true")
        return Types(BYTES[self.plan.dtype], min(BYTES[compute], BYTES[self.plan.dtype]), mixed)

    @property
    def parts(self) -> Parts:
        """What one process holds from step to step."""
        shape, cost, stored = self.shape, self.plan.optimizer, BYTES[self.plan.dtype]
        share = self.processes if self.is_split else 1
        weights = int((shape.weights - shape.quantised) * stored + shape.quantised * NF4) + shape.adapters * _FLOAT
        size = _FLOAT if shape.adapters else stored
        trained = shape.trained * size
        # On a CPU a step takes one weight at a time.
        copies = int(trained * cost.copies) if self.on_gpu else 2 * shape.largest * size
        return Parts(
            weights=weights // share,
            gradients=trained // share,
            states=int(trained * cost.state + shape.trained * cost.fixed) // share,
            buckets=trained if self.plan.strategy == "ddp" and self.processes > 1 else 0,
            copies=copies // share,
        )
