"""The arithmetic of a training step, for the share of the card's peak that it reaches (MFU).

Counted are the products that the method needs, not those that gradient checkpointing repeats nor those on padding: for
each weight and token two operations forward, two for the gradient of what goes in, two for that of the weight. The head
sees response tokens alone. Attention of the language model: 2 x layers x width x length^2 a row forward (half of it is
masked), and twice that backward; the vision tower's is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mstar.models.families import family_of, language_head
from mstar.rendering import IGNORE_INDEX, ResponseInputs

__all__ = ["Work", "flops_of", "work_of"]


@dataclass(frozen=True)
class Work:
    """What one batch consists of.

    Attributes:
        tokens: Real tokens: prompts, pictures, responses.
        padded: Tokens with padding.
        response_tokens: Tokens that have a loss.
        patches: Patches of its pictures.
        squares: Sum of the squares of the rows' lengths.
    """

    tokens: int
    padded: int
    response_tokens: int
    patches: int
    squares: int


def work_of(model: Any, batch: ResponseInputs) -> Work:
    """Counts a batch."""
    lengths_B = batch.inputs.mask_BT.sum(1)
    extras = batch.inputs.extras
    if "image_grid_thw" in extras:
        patches = int(extras["image_grid_thw"].prod(1).sum())
    elif "pixel_values" in extras:
        pixels = extras["pixel_values"].shape
        patch = model.config.vision_config.patch_size
        edge = int(patch[0] if isinstance(patch, (list, tuple)) else patch)
        patches = pixels[:-3].numel() * (pixels[-2] // edge) * (pixels[-1] // edge)
    else:
        patches = 0
    return Work(
        tokens=int(lengths_B.sum()),
        padded=batch.inputs.mask_BT.numel(),
        response_tokens=int((batch.labels_BT != IGNORE_INDEX).sum()),
        patches=patches,
        squares=int((lengths_B**2).sum()),
    )


def flops_of(model: Any, work: Work) -> float:
    """The operations of a step on a batch, by what of the model is trained (see above).

    Args:
        model: The policy. Weights in 4 bits are counted as what they stand for.
        work: The batch.
    """
    family = family_of(model)
    head = language_head(model).weight
    total = 0.0
    attended = model.config.get_text_config()
    trained = {family.part_of(name): True for name, value in model.named_parameters() if value.requires_grad}
    # Gradients flow back as far as something trained lies before.
    for name, value in model.named_parameters():
        part = family.part_of(name)
        if value.ndim < 2 or value is head or "embed_tokens" in name:
            continue
        size = value.numel() * (1 if value.is_floating_point() else 2)  # two 4-bit weights a byte
        flows = 2.0 if trained.get(part) else 0.0
        times = work.tokens if part == "language" else work.patches
        total += times * size * (2.0 + flows + (2.0 if value.requires_grad else 0.0))
    total += work.response_tokens * head.numel() * (4.0 + (2.0 if head.requires_grad else 0.0))
    dimension = getattr(attended, "head_dim", None) or attended.hidden_size // attended.num_attention_heads
    width = attended.num_attention_heads * dimension
    return total + 6.0 * attended.num_hidden_layers * width * work.squares
