"""Step labels: generated tokens of the two economical ways against continuing every step prefix 16 times.

Run ``python benchmarks/annotation.py``. The embedded model is warmed up on the seed rationales; then the same
responses are labelled in several ways. Tokens include those of the responses.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from harness import Comparison, report, single_thread
from lightning.pytorch import Trainer
from torch import nn

from mstar.annotation import Annotation, AnnotationSettings, annotate
from mstar.datamodules import PolicyDataModule
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader
from mstar.models.backbone import EMBEDDED_MODEL
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice
from mstar.rendering import Renderer
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


def train_policy() -> tuple[nn.Module, Renderer]:
    """The embedded model, warmed up."""
    policy = PolicyModule(
        EMBEDDED_MODEL,
        lr=2e-3,
        optimizer=partial(torch.optim.AdamW, betas=(0.9, 0.98)),  # type: ignore[arg-type]
        lr_scheduler=partial(torch.optim.lr_scheduler.LinearLR, start_factor=0.05, total_iters=20),
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(policy, PolicyDataModule(TinyDice("seed", 3000), batch_size=48))
    return policy.policy.eval(), policy.renderer


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
        # Labels stay on disk.
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
