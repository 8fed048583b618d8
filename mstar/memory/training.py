"""What training takes: weights, gradients, optimizer states, activations and logits of one process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mstar.memory.account import Amount, Stage, stage
from mstar.memory.activations import Types, kept_by_layer, kept_logits
from mstar.memory.lengths import Lengths
from mstar.memory.plan import BYTES, Plan
from mstar.memory.shape import ModelShape
from mstar.models.token_loss import MOST_LOGITS
from mstar.process_start import LARGEST_BLOCK

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


def weight_bytes(shape: ModelShape, dtype: str) -> int:
    """Bytes of a model's weights, adapters included."""
    plain = shape.weights - shape.quantised
    return int(plain * BYTES[dtype] + shape.quantised * NF4) + shape.adapters * _FLOAT


def model_types(plan: Plan, on_gpu: bool) -> Types:
    """Types of weights and products."""
    compute = plan.compute_dtype(on_gpu)
    mixed = compute != "float32" and not str(plan.precision).endswith("-true")
    return Types(BYTES[plan.dtype], min(BYTES[compute], BYTES[plan.dtype]), mixed)


def parts_of(plan: Plan, shape: ModelShape, on_gpu: bool, processes: int) -> Parts:
    """What one of so many processes holds from step to step."""
    share = processes if plan.strategy.startswith("fsdp") else 1
    size = _FLOAT if shape.adapters else BYTES[plan.dtype]
    trained = shape.trained * size
    cost = plan.optimizer
    states = int(trained * cost.state + shape.trained * cost.fixed)
    return Parts(
        weights=weight_bytes(shape, plan.dtype) // share,
        gradients=trained // share,
        states=states // share,
        buckets=trained if plan.strategy == "ddp" and processes > 1 else 0,
        # On a CPU a step takes one weight at a time.
        copies=int(trained * cost.copies) // share if on_gpu else 2 * shape.largest * size // share,
    )


def held_weights(plan: Plan, shape: ModelShape, types: Types, processes: int) -> Iterator[Amount]:
    """What is whole while a sharded model computes with gradients: the root, and two layers at a time."""
    if not plan.strategy.startswith("fsdp") or processes == 1:
        return
    # Its weights and their gradients as they are computed, and the gradients in float32 as they are summed.
    yield Amount("root whole, with gradients", shape.root_weights * types.compute
                 + shape.root_trained * (types.compute + _FLOAT))  # fmt: skip
    yield Amount("layers whole", shape.layer_weights * (3 * types.compute + _FLOAT))


def activations(plan: Plan, shape: ModelShape, lengths: Lengths, types: Types) -> Iterator[Amount]:
    """What the forward pass of a batch keeps, and its logits."""
    rows, whole = plan.rows, plan.training.lora is None
    response = rows * lengths.trained
    shared = plan.kind == "mprm" and plan.share_prompts and not plan.checkpointing
    # Of an MPRM's batch, the prompts are there once, for as many responses as a prompt has: at least two.
    prompts = max(rows // 2, 1) if shared else rows
    masked = lengths.prompt + lengths.trained
    text = shape.text
    if shared:
        kept = kept_by_layer(text, types, prompts * lengths.prompt, masked=lengths.prompt, whole=whole,
                             adapted=shape.adapted)  # fmt: skip
        kept += kept_by_layer(
            text, types, response, behind=rows * lengths.prompt, masked=masked, whole=whole, adapted=shape.adapted
        )
        # The prompt's keys and values, once for every response.
        kept += rows * masked * 2 * text.keys * types.compute
        layers = text.layers * kept
    else:
        kept = kept_by_layer(text, types, rows * masked, masked=masked, whole=whole, adapted=shape.adapted)
        stored = rows * masked * text.hidden * (_FLOAT if types.autocast else types.weights)
        layers = kept + text.layers * stored if plan.checkpointing else text.layers * kept
    yield Amount("activations", layers, heap=True)
    # The backward pass has the gradients of what a layer kept beside it.
    yield Amount("one layer's gradients", kept, heap=True)
    if shape.vision is not None and lengths.patches:
        patches = prompts * lengths.patches
        tower = shape.vision
        if shape.vision_trained:
            kept = kept_by_layer(tower, types, patches, whole=whole, adapted=shape.adapted)
            stored = patches * tower.hidden * (_FLOAT if types.autocast else types.weights)
            amount = kept + tower.layers * stored if plan.checkpointing else tower.layers * kept
        else:
            amount = patches * (3 * tower.inner + 2 * tower.hidden) * types.compute
        yield Amount("activations of vision", amount, heap=True)
        yield Amount("pictures", 2 * prompts * lengths.pixel_bytes, heap=True)
    budget = None if plan.kind == "policy" and plan.loss == "torch" else MOST_LOGITS
    logits = kept_logits(shape, types, response, budget=budget, fused=plan.loss == "liger")
    yield Amount("logits", logits, heap=logits < 3 * LARGEST_BLOCK)
    states = rows * masked * shape.hidden * _FLOAT + 2 * response * shape.hidden * types.compute
    yield Amount("hidden states", states, heap=True)


def training_stages(
    plan: Plan, shape: ModelShape, lengths: Lengths, on_gpu: bool, processes: int, beside: tuple[Amount, ...]
) -> tuple[Stage, Stage]:
    """The forward and backward pass, and the optimizer's step, with ``beside`` there meanwhile."""
    types = model_types(plan, on_gpu)
    parts = parts_of(plan, shape, on_gpu, processes)
    stays = (*parts.held(), Amount("gradient buckets", parts.buckets))
    cast = 0
    if types.autocast and not plan.strategy.startswith("fsdp"):
        # Those of trained weights are kept until the next step, those of frozen ones for the backward pass.
        frozen = shape.layer_weights * (1 if plan.checkpointing else shape.text.layers)
        cast = (shape.trained if plan.training.lora is None else frozen) * types.compute
    passes = stage(
        "train",
        beside,
        stays,
        Amount("16-bit weights of autocast", cast),
        held_weights(plan, shape, types, processes),
        activations(plan, shape, lengths, types),
    )
    step = stage("step", beside, stays, Amount("copies of a step", parts.copies, heap=parts.copies < 2 * LARGEST_BLOCK))
    return passes, step
