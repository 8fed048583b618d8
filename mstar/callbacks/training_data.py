"""Checking the prompts, and swapping the training data of a running fit."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from lightning.pytorch import Trainer

from mstar.distributed import is_main
from mstar.errors import DataError
from mstar.grading import Grader
from mstar.prompts import PromptSource
from mstar.prompts.subset import find_repetition
from mstar.types import Example, Prompt

__all__ = ["check_prompts", "replace_training_data"]


def check_prompts(source: PromptSource, name: str, grader: Grader) -> None:
    """Makes sure that every prompt of a source can be sampled and graded; no picture is loaded for it.

    Gold answers that cannot be graded are counted on the terminal, by category: no response to them is ever kept.

    Args:
        source: The prompts.
        name: The source's key in the configuration.
        grader: Decides whether an answer is right.

    Raises:
        DataError: there are none, one has no answer, two have the same id, or most gold answers cannot be graded.
    """
    if len(source) == 0:
        raise DataError(f"{name} has no prompts, so there is nothing to sample; mend its settings.")
    ungradeable: Counter[str] = Counter()

    def check(index: int, prompt: Prompt) -> str:
        if prompt.answer is None:
            raise DataError(
                f"{name}: prompt '{prompt.id}' (row {index}) has no answer, so its responses cannot be graded; give it "
                "one, leave it out, or move it to data.unlabelled."
            )
        if not grader.is_gradeable(prompt):
            ungradeable[prompt.category or "all"] += 1
        return prompt.id

    repeated = find_repetition(check(index, prompt) for index, prompt in enumerate(source))
    if repeated is not None:
        raise DataError(
            f"{name}: row {repeated} repeats the prompt id '{source[repeated].id}', but an id must be unique."
        )
    counts = ", ".join(f"{category} {number}" for category, number in sorted(ungradeable.items()))
    if 2 * ungradeable.total() > len(source):
        raise DataError(
            f"{name}: {ungradeable.total()} of {len(source)} gold answers cannot be graded ({counts}), so that hardly "
            "anything would be kept; mend the columns of the answer, its type and the choices."
        )
    if ungradeable and is_main():
        sys.stderr.write(
            f"{name}: {ungradeable.total()} of {len(source)} gold answers cannot be graded ({counts}); no response to "
            "these prompts is kept.\n"
        )


def replace_training_data(trainer: Trainer, examples: Sequence[Example]) -> None:
    """Makes the epoch that is about to begin train on these examples; without any, the epoch has no steps.

    Lightning builds an epoch's loader before ``on_train_epoch_start``, and with the old epoch number when it resumes,
    so generating inside ``train_dataloader`` would run for the wrong epoch. Rebuilding the loader from here is the way
    that works (lightning 2.6; ``_combined_loader`` is private, hence the upper bound on its version).

    Args:
        trainer: The trainer, inside ``on_train_epoch_start``.
        examples: The new training data, in training order.
    """
    trainer.datamodule.set_examples(examples)  # type: ignore[attr-defined]
    loop = trainer.fit_loop
    loop._combined_loader = None
    loop.setup_data()
    if loop.max_batches == 0:
        # A loop with no batches would end the whole fit; one of unknown length just finds the epoch empty.
        loop.max_batches = float("inf")
