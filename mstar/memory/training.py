"""What training takes: weights, gradients, optimizer states, activations and logits of one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mstar.memory.account import Amount, Stage, stage
from mstar.memory.activations import kept_by_layer, kept_logits
from mstar.memory.run import Run
from mstar.models.token_loss import MOST_LOGITS
from mstar.process_start import LARGEST_BLOCK

_FLOAT: Final = 4


def _held_weights(run: Run) -> Iterator[Amount]:
    """What is whole while a sharded model computes with gradients: the root, and two layers at a time."""
    if not run.is_split:
        return
    shape, types = run.shape, run.types
    # Its weights and their gradients as they are computed, and the gradients in float32 as they are summed.
    yield Amount("root whole, with gradients", shape.root_weights * types.compute
                 + shape.root_trained * (types.compute + _FLOAT))  # fmt: skip
    yield Amount("layers whole", shape.layer_weights * (3 * types.compute + _FLOAT))


def _activations(run: Run) -> Iterator[Amount]:
    """What the forward pass of a batch keeps, and its logits."""
    plan, shape, lengths, types = run.plan, run.shape, run.lengths, run.types
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


def training_stages(run: Run, beside: tuple[Amount, ...]) -> tuple[Stage, Stage]:
    """The forward and backward pass, and the optimizer's step, with ``beside`` there meanwhile."""
    plan, shape, types, parts = run.plan, run.shape, run.types, run.parts
    stays = (*parts.held(), Amount("gradient buckets", parts.buckets))
    cast = 0
    if types.autocast and not plan.sharded:
        # Those of trained weights are kept until the next step, those of frozen ones for the backward pass.
        frozen = shape.layer_weights * (1 if plan.checkpointing else shape.text.layers)
        cast = (shape.trained if plan.training.lora is None else frozen) * types.compute
    casts = Amount("16-bit weights of autocast", cast)
    passes = stage("train", beside, stays, casts, _held_weights(run), _activations(run))
    step = stage("step", beside, stays, Amount("copies of a step", parts.copies, heap=parts.copies < 2 * LARGEST_BLOCK))
    return passes, step
