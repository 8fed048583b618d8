"""Checking the prompts, swapping the training data of a running fit, and keeping one folder to one iteration."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from mstar.callbacks.config_check import FIXED_OF_ENGINE
from mstar.distributed import is_main
from mstar.errors import DataError
from mstar.generation import Engine
from mstar.grading import Grader
from mstar.prompts import PromptSource
from mstar.prompts.subset import find_repetition
from mstar.storage import RunDirectory, read_json, write_json
from mstar.types import Example, Prompt

__all__ = ["check_prompts", "claim_iteration", "fingerprint_prompts", "make_facts", "replace_training_data"]


def check_prompts(source: PromptSource, name: str, grader: Grader) -> None:
    """Makes sure that every prompt of a source can be sampled and graded; no picture is loaded for it.

    Gold answers that cannot be graded are counted on the terminal, by category: no response to them is ever kept.

    Args:
        source: The prompts.
        name: The source's key in the configuration.
        grader: Decides whether an answer is right.

    Raises:
        DataError: there are none, one has no answer, or two have the same id.
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
    if ungradeable and is_main():
        counts = ", ".join(f"{category} {number}" for category, number in sorted(ungradeable.items()))
        sys.stderr.write(
            f"{name}: {ungradeable.total()} of {len(source)} gold answers cannot be graded ({counts}); no response to "
            "these prompts is kept.\n"
        )


def fingerprint_prompts(prompts: Iterable[Prompt]) -> str:
    """A short hash of what an iteration's responses and verdicts depend on in its prompts."""
    digest = hashlib.blake2b(digest_size=8)
    for prompt in prompts:
        images = [image.uri for image in prompt.images]
        digest.update(repr((prompt.id, prompt.question, images, prompt.answer, prompt.choices)).encode())
    return digest.hexdigest()


def make_facts(engine: Engine, grader: Grader) -> dict[str, Any]:
    """What responses and verdicts depend on in an engine and a grader, as JSON values."""
    return {
        "engine": type(engine).__name__,
        **_values(engine, FIXED_OF_ENGINE),
        "grader": type(grader).__name__,
        "grader_settings": _values(grader, inspect.signature(type(grader)).parameters),
    }


def _values(component: object, names: Iterable[str]) -> dict[str, Any]:
    """Those of a component's settings that it keeps under their names, or under ``options``, and that JSON can hold."""
    holders = (component, getattr(component, "options", None))
    found = {name: getattr(holder, name) for name in names for holder in holders if hasattr(holder, name)}
    return {name: json.loads(text) for name, value in found.items() if (text := _as_json(value)) is not None}


def _as_json(value: object) -> str | None:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        # A setting that is an object of its own; nothing of it is known here.
        return None


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


def claim_iteration(run: RunDirectory, iteration: int, facts: Mapping[str, Any]) -> None:
    """Makes sure that what is in an iteration's folder belongs to it; anything else is moved aside, not deleted.

    Shards that depend on the same facts are those of an interrupted run and are used again. Folders of later
    iterations belong to an earlier run.

    Args:
        run: The run directory.
        iteration: The iteration that is about to run.
        facts: All that its responses depend on, as JSON values.
    """
    for index in run.iterations:
        folder = run.iteration(index)
        if index > iteration or (index == iteration and not _same_plan(run.plan(index), facts)):
            free = next(path for n in count(1) if not (path := Path(f"{folder}.old-{n}")).exists())
            folder.rename(free)
    if not run.plan(iteration).exists():
        write_json(run.plan(iteration), facts)


def _same_plan(path: Path, facts: Mapping[str, Any]) -> bool:
    if not path.exists():
        return False
    plan = read_json(path)
    if "policy_compute" not in plan:
        # Written by an earlier version, whose rollouts computed in the type of the policy's weights.
        dtype = plan.get("policy_dtype")
        plan |= {"policy_compute": dtype, "reward_dtype": dtype if plan.get("reward_model") else None}
    return plan == dict(facts)
