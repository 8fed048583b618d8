"""The table of docs/families.md: every cell is a check of a tiny model with random weights, of text."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import architectures  # the fixture ``architectures``, or the worker's path, makes it known
import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from mstar.errors import ConfigError
from mstar.generation.vllm_families import PROVEN_FAMILIES
from mstar.models.compatibility import check_configuration, check_model
from mstar.models.families import family_of
from mstar.models.lora import LoraSettings
from mstar.models.packing import check_packing
from mstar.models.step_scorer import StepScorer
from mstar.models.token_loss import mean_token_loss
from mstar.models.trained_part import prepare_training
from mstar.rendering import IGNORE_INDEX, Renderer

TOLERANCE = 2e-4
YES, NO, REFUSED, UNTESTED = "yes", "**no**", "refused", "not tested"
COLUMNS = ("train", "rollouts", "vLLM", "MPRM", "LoRA", "packing", "DDP", "FSDP2", "pictures")
STEPS = [["red = 4\nAnswer: 9", "no"], ["why = not\nAnswer: 1"], ["5 + 6 = 11\nso it is\nAnswer: 11", "x\ny"]]

# Families whose tiny model is not made, and why.
NOT_MADE = {
    "gemma3n": "its vision tower needs the package timm",
    "inkling_mm_model": "it needs the package scipy",
    "perception_lm": "its vision tower needs the package timm",
    "vision-encoder-decoder": "it joins any two models, and has no configuration of its own",
}

Row = dict[str, str]


def families() -> list[str]:
    """The model types that AutoModelForImageTextToText knows."""
    return sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def reason_against(name: str) -> str | None:
    """Why a family is refused, in mstar's own words; None if it is not."""
    try:
        check_configuration(name, SimpleNamespace(model_type=name))
        if name not in NOT_MADE:
            check_configuration(name, architectures.tiny_config(name))
    except ConfigError as error:
        return str(error).partition("mstar cannot use: ")[2].partition(". docs/")[0]
    return None


def usable() -> list[str]:
    """The families that are checked."""
    return [name for name in families() if name not in NOT_MADE and reason_against(name) is None]


def with_pictures() -> set[str]:
    """The families whose processors two tests make, to check them with pictures."""
    names: set[str] = set()
    for folder in ("models", "vllm"):
        path = Path(__file__).parents[1] / folder / "test_families.py"
        spec: Any = importlib.util.spec_from_file_location(f"{folder}_test_families", path)
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        names |= set(module.NAMES)
    return names


def loss(model: Any, renderer: Renderer, rows: slice = slice(None)) -> Tensor:
    """The loss of training on some responses."""
    batch = renderer.response_inputs(architectures.PROMPTS[rows], architectures.TEXTS[:3][rows])
    hidden = family_of(model).hidden_states(model, batch.inputs.ids_BT, batch.inputs.mask_BT, batch.inputs.extras)
    learned = batch.labels_BT[:, 1:] != IGNORE_INDEX
    return mean_token_loss(model, hidden[:, :-1][learned], batch.labels_BT[:, 1:][learned])


def step_lowers_loss(model: Any, renderer: Renderer) -> bool:
    """Whether one step of AdamW lowers the loss."""
    before = loss(model, renderer)
    before.backward()  # type: ignore[no-untyped-call]
    torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3).step()
    model.zero_grad()
    with torch.no_grad():
        return bool(loss(model, renderer) < before)


def trains(model: Any, renderer: Renderer) -> str:
    """The loss is that of plain forward passes, and a step lowers it."""
    right = architectures.loss_error(model, renderer) < TOLERANCE
    return YES if right and step_lowers_loss(model, renderer) else NO


def rolls_out(model: Any, renderer: Renderer) -> str:
    """Shared prompts, responses that are lengthened, rows that leave: the logits are those of plain forward passes."""
    errors = (architectures.scoring_error(model, renderer), architectures.decoding_error(model, renderer))
    return YES if max(errors) < TOLERANCE else NO


def in_vllm(model: Any, renderer: Renderer) -> str:
    """What tests/vllm/test_engine_families.py proves on real vLLM."""
    return YES if model.config.model_type in PROVEN_FAMILIES else REFUSED


def scores_steps(model: Any, renderer: Renderer) -> str:
    """Responses behind a shared prompt are scored as each behind its own."""
    scorer = StepScorer(model, head_size=8).eval()
    nn.init.normal_(scorer.head.output.weight, generator=torch.Generator().manual_seed(0))
    prompts = architectures.PROMPTS
    shared = scorer.score_inputs(scorer.render(renderer, prompts, STEPS))
    pairs = [(prompt, text) for prompt, texts in zip(prompts, STEPS, strict=True) for text in texts]
    with torch.inference_mode():
        alone = scorer(renderer.response_inputs([p for p, _ in pairs], [t for _, t in pairs])).logits_N
    flat = torch.tensor([logit for row in shared for logit in row])
    return YES if flat.std() > 0.01 and float((flat - alone).abs().max()) < TOLERANCE else NO


def adapts(model: Any, renderer: Renderer) -> str:
    """A step of adapters lowers the loss, and leaves the weights as they are; comes last, since they stay in."""
    prepare_training(model, [], LoraSettings(rank=4))
    weights = {name: value.clone() for name, value in model.named_parameters() if ".lora_" not in name}
    lower = step_lowers_loss(model, renderer)
    same = all(torch.equal(value, weights[name]) for name, value in model.named_parameters() if name in weights)
    return YES if lower and same else NO


def packs(model: Any, renderer: Renderer) -> str:
    """Packed rows have the hidden states of padded ones."""
    try:
        check_packing(model)
    except ConfigError:
        return REFUSED
    return YES if architectures.packing_error(model, renderer) < TOLERANCE else NO


# In this order: a step changes the weights.
CHECKS: dict[str, Callable[[Any, Renderer], str]] = {
    "rollouts": rolls_out, "vLLM": in_vllm, "MPRM": scores_steps, "packing": packs, "train": trains, "LoRA": adapts,
}  # fmt: skip


def row_of(name: str, model: Any, renderer: Renderer) -> Row:
    """The cells of one family that one process fills."""
    check_model(name, model, family_of(model))
    torch.manual_seed(9)  # adapters begin with the same weights, whatever was made before
    return {column: check(model, renderer) for column, check in CHECKS.items()}


def document(cells: dict[str, Row]) -> str:
    """The text of docs/families.md.

    Args:
        cells: Those of every usable family, but for the column "pictures".
    """
    pictures, lines = with_pictures(), []
    for name in families():
        refusal, missing = reason_against(name), NOT_MADE.get(name)
        if refusal is not None:
            row, note = dict.fromkeys(COLUMNS, REFUSED), refusal
        elif missing is not None:
            row, note = {**dict.fromkeys(COLUMNS, UNTESTED), "vLLM": REFUSED}, missing
        else:
            seen = {"pictures": YES if name in pictures else UNTESTED}
            row, note = {**cells[name], **seen}, ""
        lines.append("| " + " | ".join([f"`{name}`", *(row[column] for column in COLUMNS), note]) + " |")
    return INTRODUCTION.format(version=transformers.__version__) + "\n".join(lines) + "\n"


INTRODUCTION = """# Model families

Each cell is what a check found on a tiny model of the family with random weights, on a CPU in float32, with text and \
with transformers {version}; `tests/models/test_family_table.py` checks them all again and writes this file. "not \
tested" means that nobody knows: the tiny model, or in the column "pictures" its processor, is not made by any test.

The rows are all families that transformers loads by `AutoModelForImageTextToText`, by the `model_type` of their \
`config.json`. "refused" means that mstar stops with a sentence before it computes something wrong; the last column \
has the reason where a whole family is refused, or is not tested.

- train: the loss is that of plain forward passes, and a step on it lowers it.
- rollouts: logits behind shared prompts, while rows are lengthened and dropped, are those of plain forward passes \
(within 2e-4).
- vLLM: log-probabilities, text, new weights and adapters are right on real vLLM, with pictures too \
(`tests/vllm/test_engine_families.py`). Within these families, language models with experts and Granite are refused.
- MPRM: steps behind shared prompts get the scores that they get behind prompts of their own.
- LoRA: a step of adapters lowers the loss and leaves the weights alone. Experts that are one parameter, in no linear \
layers (as those of `qwen3_vl_moe`), get none, nor are they quantised; a warning says so.
- packing: rows laid end to end have the hidden states that they have alone.
- DDP, FSDP2: the gradients of two processes are those of one with the rows of both, also where the rows of one use \
weights outside of the language model's layers that those of the other do not.
- pictures: train, rollouts, MPRM and LoRA hold with the pictures of the family's own processor too \
(`tests/models/test_families.py` and, with torchvision, `tests/vllm/test_families.py`).

| family | train | rollouts | vLLM | MPRM | LoRA | packing | DDP | FSDP2 | pictures | why |
|---|---|---|---|---|---|---|---|---|---|---|
"""
