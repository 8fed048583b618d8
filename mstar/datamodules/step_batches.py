"""The batches of one optimizer step: rows of like length together, and one mean over the tokens of all of them.

Rows of a batch are padded to the longest, so batches of rows as they come are half padding where lengths differ. Only
rows of the same step change places, so that a step learns from the rows that it would learn from without this.

Shapes: B rows, T tokens, N response tokens of all rows in order.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing import get_sharing_strategy

from mstar.datamodules.resumable import ResumableLoader
from mstar.models.token_counter import TokenCounter
from mstar.process_start import allow_files
from mstar.rendering import IGNORE_INDEX, Renderer, ResponseInputs
from mstar.types import Example, Prompt

Pair = tuple[Prompt, Example]
T = TypeVar("T", covariant=True)
_log = logging.getLogger(__name__)
# Of a batch, in the process that takes it; the one that builds it has twice as many, for one step. Of all else.
_FILES: Final = 16
_OTHER_FILES: Final = 256


class Credit:
    """What the responses of a batch are worth.

    No dataclass: of one, Lightning rounds the tensors to ``trainer.precision`` (bf16-true), and a ratio would be one of
    rounded log-probabilities.

    Args:
        length_B: Tokens of each response.
        weight_B: See ``Example``, and so are the next two.
        advantage_B: How much likelier each response should get.
        logprob_N: The log-probability of each token when it was sampled.
    """

    def __init__(self, length_B: Tensor, weight_B: Tensor, advantage_B: Tensor, logprob_N: Tensor) -> None:
        self.length_B = length_B
        self.weight_B = weight_B
        self.advantage_B = advantage_B
        self.logprob_N = logprob_N

    def to(self, device: torch.device | str) -> Credit:
        """The same on another device."""
        values = (self.length_B, self.weight_B, self.advantage_B, self.logprob_N)
        return Credit(*(value.to(device) for value in values))

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Credit | None:
        """What examples are worth; None where they are imitated."""
        advantages = [example.advantage for example in examples if example.advantage is not None]
        if not advantages:
            return None
        return cls(
            torch.tensor([len(example.tokens) for example in examples]),
            torch.tensor([example.weight for example in examples], dtype=torch.float32),
            torch.tensor(advantages, dtype=torch.float32),
            torch.tensor([value for example in examples for value in example.logprobs], dtype=torch.float32),
        )


@dataclass
class StepBatch(ResponseInputs):
    """One of the batches that the gradient of an optimizer step is accumulated from.

    Attributes:
        mean_tokens: Response tokens of the whole step divided by its nominal number of batches. The sum of a batch's
            token losses divided by it, averaged as the trainer averages batches, is the mean over the step's tokens.
        mean_rows: The same of its rows.
        credit: What its responses are worth; None where they are imitated.
        weight_B: The weight of each response that is imitated; None where all of the iteration weigh 1. Every token
            then counts by its weight in ``mean_tokens``, so that a row of weight 2 is that row twice.
    """

    mean_tokens: float = 0.0
    mean_rows: float = 0.0
    credit: Credit | None = None
    weight_B: Tensor | None = None


class StepCollate:
    """The rows of one step -> its batches; a class, so that worker processes can be handed it.

    Args:
        batches_per_step: Batches in a full step.
        sort: Whether rows of like length go together, the longest first: if memory does not suffice, it shows at once.
        credited: Whether rows have advantages, or weights other than 1.
    """

    def __init__(
        self, renderer: Renderer, batch_size: int, batches_per_step: int, sort: bool, credited: bool = True
    ) -> None:
        self.renderer = renderer
        self.batch_size = batch_size
        self.batches_per_step = batches_per_step
        self.sort = sort
        self.credited = credited
        self._count = TokenCounter(renderer)

    def __call__(self, pairs: list[Pair]) -> list[StepBatch]:
        """The batches of the rows of one step."""
        if self.sort:
            lengths = self._count([(prompt, example.response) for prompt, example in pairs])
            pairs = [pairs[row] for row in sorted(range(len(pairs)), key=lambda row: -lengths[row])]
        parts = [pairs[start : start + self.batch_size] for start in range(0, len(pairs), self.batch_size)]
        batches = [encode(self.renderer, part) for part in parts]
        credits = [Credit.of([example for _, example in part]) for part in parts]
        weights = [self._weights(part) if credit is None else None for part, credit in zip(parts, credits, strict=True)]
        tokens = sum(map(_count_tokens, batches, weights))
        means = (tokens / self.batches_per_step, len(pairs) / self.batches_per_step)
        return [
            StepBatch(batch.inputs, batch.labels_BT, batch.step_ends, *means, credit, weight_B)
            for batch, credit, weight_B in zip(batches, credits, weights, strict=True)
        ]

    def _weights(self, pairs: Sequence[Pair]) -> Tensor | None:
        if not self.credited:
            return None
        return torch.tensor([example.weight for _, example in pairs], dtype=torch.float32)


def _count_tokens(batch: ResponseInputs, weight_B: Tensor | None) -> float:
    """The response tokens of a batch, by their weight."""
    tokens_B = (batch.labels_BT != IGNORE_INDEX).sum(1)
    return int(tokens_B.sum()) if weight_B is None else float((weight_B * tokens_B).sum())


def encode(renderer: Renderer, pairs: Sequence[Pair]) -> ResponseInputs:
    """Prompts with what is learned of them as one batch."""
    prompts, examples = [prompt for prompt, _ in pairs], [example for _, example in pairs]
    responses, tokens = [example.response for example in examples], [example.tokens for example in examples]
    return renderer.response_inputs(prompts, responses, tokens)


def _usable_workers(asked: int, batches_per_step: int) -> int:
    """As many as open files are allowed for: PyTorch hands over tensors by them, and waits for what did not pass."""
    files = _FILES * batches_per_step
    wanted = _OTHER_FILES + files * (asked + 1)
    if not asked or get_sharing_strategy() != "file_descriptor" or (allowed := allow_files(wanted)) >= wanted:
        return asked
    usable = max((allowed - _OTHER_FILES) // files - 1, 0)
    _log.warning(
        "data.num_workers is %d, but steps of %d batches want about %d open files, and %d are allowed (ulimit -n): %d "
        "are used.",
        *(asked, batches_per_step, wanted, allowed, usable),
    )
    return usable


class StepLoader(ResumableLoader[T]):
    """A loader of batches that are made a step at a time; a checkpoint may fall between the batches of a step.

    Args:
        dataset: The rows.
        draws_per_batch: How many draws of the sampler make a batch.
        batches_per_step: Batches in a full step.
        sampler: The order.
        num_workers: Processes that build steps, of which each holds one finished step, pictures included; fewer where
            so many files may not be open as these have.
        collate_fn: What the sampler drew for a step -> its batches.
    """

    def __init__(
        self,
        dataset: Any,
        draws_per_batch: int,
        batches_per_step: int,
        sampler: Any,
        num_workers: int,
        collate_fn: Callable[[list[Any]], list[T]],
    ) -> None:
        num_workers = _usable_workers(num_workers, batches_per_step)
        super().__init__(
            dataset,
            batch_size=draws_per_batch * batches_per_step,
            sampler=sampler,
            num_workers=num_workers,
            prefetch_factor=1 if num_workers else None,
            collate_fn=collate_fn,
        )
        self.draws_per_batch = draws_per_batch
        self.batches_per_step = batches_per_step

    def __len__(self) -> int:
        """Batches, not steps."""
        return math.ceil(len(self.sampler) / self.draws_per_batch)  # type: ignore[arg-type]

    def make_batches(self) -> Iterator[T]:
        """The batches of the steps, without those of the first step that were handed out before."""
        skipped = self._begin % self.batches_per_step
        steps: Iterator[Any] = super().make_batches()
        for batches in steps:
            yield from islice(batches, skipped, None)
            skipped = 0

    @property
    def draws_to_skip(self) -> int:
        """One draw is a whole step, and a step whose batches were only partly handed out is drawn again."""
        return self._begin // self.batches_per_step
