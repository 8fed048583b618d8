"""Batches of step labels, of those labels that can be used.

Shapes: B rows (responses), N the steps of all rows in order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mstar.annotation.label_table import LabelTable
from mstar.errors import DataError
from mstar.models.response_scorer import SharedInputs
from mstar.prompts.prompt_check import PromptCheck, describe
from mstar.prompts.quarantine import QuarantineFile, RowError
from mstar.rendering import Renderer, ResponseInputs
from mstar.types import Prompt, StepLabels


@dataclass
class StepLabelBatch:
    """Labelled responses, ready for the step scorer.

    Not frozen, because Lightning moves a batch to a device by setting its fields.

    Attributes:
        responses: The inputs, each prompt once or once a row; ``step_ends`` says where the steps are.
        soft_N: Share of the continuations that reached the gold answer, for the steps of all rows in order; NaN for
            those that are not labelled.
        hard_N: 1 where any continuation did, else 0; NaN likewise.
        group_B: A number for every row's prompt, equal for rows of one prompt.
        correct_B: Whether the response's final answer is right.
        chain_B: 1 if the whole chain is right, 0 if not, -1 if unknown.
        logprobs: For every row the policy's log-probability of the response; NaN if unknown. No tensor, which Lightning
            would round to ``trainer.precision`` (bf16-true).
        labelled_N: Which steps are labelled; None if all are.
        finished: For every row whether the response ended by itself; None if all did.
        counts: How many terms of each kind the batch's loss has, such as labelled steps and pairs; see ``TermCounter``.
        means: The mean of ``counts`` over the nominal number of batches of the optimizer step.
    """

    responses: ResponseInputs | SharedInputs
    soft_N: Tensor
    hard_N: Tensor
    group_B: Tensor
    correct_B: Tensor
    chain_B: Tensor
    logprobs: list[float]
    labelled_N: Tensor | None = None
    finished: list[bool] | None = None
    counts: tuple[int, ...] = ()
    means: tuple[float, ...] = ()


TermCounter = Callable[[StepLabelBatch], tuple[int, ...]]


def collate_step_labels(
    labels: Sequence[StepLabels],
    prompts: Mapping[int, Prompt],
    groups: Sequence[int],
    renderer: Renderer,
    share_prompts: bool = True,
) -> StepLabelBatch:
    """Makes a batch.

    Args:
        labels: One labelled response a row.
        groups: The number of each row's prompt.
        share_prompts: Whether each prompt is in the batch once, for all its responses.
    """
    texts = [label.response for label in labels]
    labelled = [total > 0 for label in labels for total in label.num_total]
    if share_prompts:
        place = {number: i for i, number in enumerate(prompts)}
        owners = [place[number] for number in groups]
        responses: ResponseInputs | SharedInputs = SharedInputs.render(renderer, [*prompts.values()], owners, texts)
    else:
        responses = renderer.response_inputs([prompts[number] for number in groups], texts)
    soft_N = torch.tensor([value for label in labels for value in label.soft_labels], dtype=torch.float32)
    return StepLabelBatch(
        responses=responses,
        soft_N=soft_N,
        hard_N=soft_N.ceil(),
        group_B=torch.tensor(groups),
        correct_B=torch.tensor([label.correct for label in labels]),
        chain_B=torch.tensor([-1 if label.chain_correct is None else int(label.chain_correct) for label in labels]),
        logprobs=[math.nan if label.logprob is None else label.logprob for label in labels],
        labelled_N=None if all(labelled) else torch.tensor(labelled),
        finished=None if all(label.finished for label in labels) else [label.finished for label in labels],
    )


@dataclass(frozen=True, slots=True)
class UsableRows:
    """Labels with their prompts, their pictures decoded; those that cannot be used are put aside."""

    labels: LabelTable
    prompt: Callable[[int], Prompt]
    numbers: NDArray[np.int64]
    check: PromptCheck
    quarantine: QuarantineFile

    def fetch(self, rows: Sequence[int]) -> tuple[list[StepLabels], list[int], dict[int, Prompt]]:
        """The usable ones of some rows, or the next usable row if none of them is: no process must run out of batches.

        Returns:
            The labels, for each the number of its prompt, and the prompts by their numbers.
        """
        size = len(self.labels)
        for attempt in chain([rows], ([(rows[-1] + place) % size] for place in range(1, size + 1))):
            found = self._fetch(attempt)
            if found[0]:
                return found
        raise DataError(f"{self.quarantine.name}: none of the {size} labels can be used; see {self.quarantine.path}.")

    def _fetch(self, rows: Sequence[int]) -> tuple[list[StepLabels], list[int], dict[int, Prompt]]:
        by_prompt: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            by_prompt[int(self.numbers[row])].append(row)
        labels: dict[int, StepLabels] = {}
        prompts: dict[int, Prompt] = {}
        for number, own in by_prompt.items():
            prompt = self.prompt(number)
            mine = {row: self.labels[row] for row in own}
            try:
                prompts[number], faults = self.check.open_all(prompt, [label.response for label in mine.values()])
            except RowError as error:
                faults = [error] * len(own)
            bad = [(row, fault) for row, fault in zip(own, faults, strict=True) if fault is not None]
            self.quarantine.add([describe(prompt, fault, row) for row, fault in bad])
            labels |= {row: mine[row] for row, fault in zip(own, faults, strict=True) if fault is None}
            if len(bad) == len(own):
                prompts.pop(number, None)
        kept = [row for row in rows if row in labels]
        return [labels[row] for row in kept], [int(self.numbers[row]) for row in kept], prompts


class StepLabelCollate:
    """Row numbers -> batches of the usable ones; see ``UsableRows.fetch``.

    Args:
        count: The kinds of terms that the loss is a mean over.
        batches_per_step: Batches in a full optimizer step.
    """

    def __init__(
        self, usable: UsableRows, renderer: Renderer, share_prompts: bool, count: TermCounter, batches_per_step: int = 1
    ) -> None:
        self.usable = usable
        self.renderer = renderer
        self.share_prompts = share_prompts
        self.count = count
        self.batches_per_step = batches_per_step

    def batch(self, rows: list[int]) -> StepLabelBatch:
        """One batch."""
        labels, groups, prompts = self.usable.fetch(rows)
        batch = collate_step_labels(labels, prompts, groups, self.renderer, self.share_prompts)
        batch.counts = self.count(batch)
        return batch

    def step(self, rows: list[list[int]]) -> list[StepLabelBatch]:
        """The batches of one optimizer step."""
        batches = [self.batch(part) for part in rows]
        means = tuple(sum(counts) / self.batches_per_step for counts in zip(*[b.counts for b in batches], strict=True))
        for batch in batches:
            batch.means = means
        return batches
