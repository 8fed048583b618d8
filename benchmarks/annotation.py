"""Step labels: generated tokens of the two economical ways against continuing every step prefix 16 times.

Run ``python benchmarks/annotation.py``. The embedded model is warmed up on the seed rationales; then the same
responses are labelled in several ways. Tokens include those of the responses.
"""

from __future__ import annotations

import logging
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from harness import Comparison, report, single_thread

from mstar.annotation import Annotation, AnnotationSettings, annotate
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.prompts import TinyDice
from mstar.types import StepLabels

PROMPTS: Final = 96
STEPS: Final = 200
TARGET: Final = 3.0
EXHAUSTIVE: Final = AnnotationSettings(num_samples=8, num_continuations=16, max_per_side=2, unmixed_share=0.2)

WAYS: Final = {
    "all of 4": replace(EXHAUSTIVE, num_continuations=4),
    "ahead by 3, at most 16": replace(EXHAUSTIVE, continuing="ahead"),
    "ahead by 3, at most 8": replace(EXHAUSTIVE, num_continuations=8, continuing="ahead"),
    "search, at most 16": replace(EXHAUSTIVE, continuing="search"),
    "search, at most 8": replace(EXHAUSTIVE, num_continuations=8, continuing="search"),
}


def train_policy() -> tuple[Any, Any]:
    """The embedded model, warmed up."""
    model: Any = load_model(EMBEDDED_MODEL)
    renderer = load_renderer(EMBEDDED_MODEL, model)
    prompts = list(TinyDice("seed", 3000))
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=2e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    shuffled = random.Random(0)
    for _ in range(STEPS):
        rows = shuffled.sample(prompts, 48)
        batch = renderer.response_inputs(rows, [prompt.rationale or "" for prompt in rows])
        inputs = batch.inputs
        loss = model(
            input_ids=inputs.ids_BT, attention_mask=inputs.mask_BT, labels=batch.labels_BT, **inputs.extras
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval(), renderer


def agreement(one: Annotation, other: Annotation, label: Callable[[StepLabels], tuple[Any, ...]]) -> float:
    """Share of the steps, the last ones aside, whose labels are equal."""
    pairs = [
        (a, b)
        for mine, its in zip(one.labels, other.labels, strict=True)
        for a, b in zip(label(mine)[:-1], label(its)[:-1], strict=True)
    ]
    return sum(a == b for a, b in pairs) / len(pairs)


def hard(labels: StepLabels) -> tuple[bool, ...]:
    """Whether any continuation reached the answer."""
    return labels.hard_labels


def majority(labels: StepLabels) -> tuple[bool, ...]:
    """Whether more than half of them did."""
    return tuple(share > 0.5 for share in labels.soft_labels)


def soft_error(one: Annotation, other: Annotation) -> float:
    """Mean absolute difference of the soft labels, the last ones aside."""
    differences = [
        abs(a - b)
        for mine, its in zip(one.labels, other.labels, strict=True)
        for a, b in zip(mine.soft_labels[:-1], its.soft_labels[:-1], strict=True)
    ]
    return sum(differences) / len(differences)


def main() -> None:
    """Prints the ratios."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    single_thread()
    model, renderer = train_policy()
    engine = TransformersEngine(40, 256, progress=False)
    engine.start(model, renderer)
    prompts = list(TinyDice("annotation", PROMPTS))

    def label(name: str, settings: AnnotationSettings) -> Annotation:
        return annotate(prompts, engine, AnswerGrader(), settings, Path(folder, name), progress=False)

    with tempfile.TemporaryDirectory() as folder:
        exhaustive = label("all", EXHAUSTIVE)
        made = [(name, label(name, settings)) for name, settings in WAYS.items()]
    sys.stdout.write(
        f"{len(exhaustive.labels)} responses, {exhaustive.num_prefixes} prefixes, "
        f"{100 * exhaustive.share_correct:.0f} % of the responses right\n"
    )
    for name, labels in made:
        agrees = f"hard labels {100 * agreement(labels, exhaustive, hard):.1f} % equal"
        if "search" not in name:
            agrees = (
                f"labels at one half {100 * agreement(labels, exhaustive, majority):.1f} %, {agrees}, "
                f"soft labels off by {soft_error(labels, exhaustive):.3f}"
            )
        ours, theirs = labels.num_tokens / exhaustive.num_steps, exhaustive.num_tokens / exhaustive.num_steps
        title = f"annotation, {name}, against all of 16: {agrees}"
        target = 0.0 if name.startswith("all") else TARGET
        report(Comparison(title, "tokens a label", ours, theirs, theirs / ours, theirs / ours, target, 1))


if __name__ == "__main__":
    sys.exit(main())
