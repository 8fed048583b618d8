"""How long prompts and responses are: counted on some rows of the data, or assumed from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from mstar.memory.plan import Plan
from mstar.memory.shape import ModelShape
from mstar.rendering import Renderer
from mstar.types import Prompt

# Of a question with its template and instruction; MathV360K's longest have about as many.
_TEXT: Final = 200
# Where neither the data nor the settings bound a picture: a photograph of 1 megapixel.
_PIXELS: Final = 1_003_520
# Idefics3 and SmolVLM cut every picture into at most 4 x 4 parts, and show it whole too.
_PARTS: Final = 17
# InternVL cuts a picture into at most 12 parts.
_MOST_PARTS: Final = 12


@dataclass(frozen=True)
class Lengths:
    """Lengths of the longest rows.

    Attributes:
        prompt: Tokens of a prompt, those of its pictures included.
        scored: Tokens of a response that is drawn, scored and kept in files.
        trained: Tokens of a response that is trained on: no more than ``data.max_example_tokens`` leaves to it.
        patches: Patches of a prompt's pictures.
        pixel_bytes: Bytes of a prompt's pictures as the model gets them.
        said: How they were found, in words.
    """

    prompt: int
    scored: int
    trained: int
    patches: int
    pixel_bytes: int
    said: str


def assume_lengths(plan: Plan, shape: ModelShape, prompt_tokens: int | None, response_tokens: int | None) -> Lengths:
    """Lengths from the settings, or from what the user says of prompts and responses."""
    patches, said = _patches(plan.max_pixels or _PIXELS, shape)
    pictures = patches // shape.merge
    prompt = prompt_tokens or plan.max_prompt_tokens
    if prompt is None:
        prompt = pictures + _TEXT
        said = f"{said} and {_TEXT} tokens of text"
    elif prompt_tokens is not None:
        said = "as given"
    else:
        said = "data.max_prompt_tokens"
    engine = plan.rollout.engine if plan.rollout else plan.evaluation
    response = response_tokens or (engine.max_new_tokens if engine else 512)
    patches = min(patches, prompt * shape.merge)
    said = f"assumed: prompts of {prompt} tokens ({said}), responses of {response}"
    return _limited(plan, prompt, response, patches, patches * shape.patch**2 * 3 * 4, said)


def _limited(plan: Plan, prompt: int, response: int, patches: int, pixel_bytes: int, said: str) -> Lengths:
    """Lengths of such prompts and responses, of which examples that are too long are not trained on."""
    trained = response
    if plan.fits and plan.max_example_tokens is not None:
        trained = min(response, max(plan.max_example_tokens - prompt, 1))
    if trained < response:
        said += f", of {trained} where they are trained on (data.max_example_tokens)"
    return Lengths(prompt, response, trained, patches, pixel_bytes, said)


def _patches(area: int, shape: ModelShape) -> tuple[int, str]:
    if shape.vision is None:
        return 0, "no pictures"
    kind = str(shape.config.model_type)
    if shape.image_size is None or kind.startswith("qwen"):
        return area // shape.patch**2, f"a picture of {area:,} pixels"
    each = (shape.image_size // shape.patch) ** 2
    if kind in {"idefics3", "smolvlm"}:
        parts = _PARTS
    elif kind == "internvl":
        parts = min(_MOST_PARTS, ceil(area / shape.image_size**2)) + 1
    else:
        parts = 1
    return parts * each, f"a picture in {parts} part{'s' if parts > 1 else ''}"


def count_lengths(
    plan: Plan, shape: ModelShape, renderer: Renderer, rows: Sequence[tuple[Prompt, str | None]]
) -> Lengths:
    """The longest of some rows: prompts, each with a response where the data has one."""
    prompts, responses, patches, size = [], [], [], []
    for prompt, response in rows:
        inputs = renderer.prompt_inputs([prompt])
        if plan.max_prompt_tokens is not None and inputs.ids_BT.shape[1] > plan.max_prompt_tokens:
            continue  # it is put aside
        prompts.append(inputs.ids_BT.shape[1])
        if response is not None:
            responses.append(renderer.count_response_tokens(response))
        pixels = inputs.extras.get("pixel_values")
        patches.append(_count_patches(pixels, shape))
        size.append(0 if pixels is None else pixels.numel() * pixels.element_size())
    if not prompts:
        return assume_lengths(plan, shape, None, None)
    engine = plan.rollout.engine if plan.rollout else plan.evaluation
    longest = max(responses, default=engine.max_new_tokens if engine else 512)
    said = f"counted on {len(prompts)} prompts: {max(prompts)} tokens, responses of {longest}"
    if plan.rollout is not None and plan.kind == "policy":
        longest = plan.rollout.engine.max_new_tokens
        said = f"counted on {len(prompts)} prompts: {max(prompts)} tokens; responses of {longest}, the longest"
    return _limited(plan, max(prompts), longest, max(patches), max(size), said)


def _count_patches(pixels: Any, shape: ModelShape) -> int:
    if pixels is None:
        return 0
    if pixels.ndim == 2:  # one row a patch (Qwen-VL)
        return int(pixels.shape[0])
    return int(pixels.numel() // (3 * shape.patch**2))
