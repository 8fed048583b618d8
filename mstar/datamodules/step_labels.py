"""Stage 5 for the MPRM: step labels to batches.

Shapes: B rows (responses), N the steps of all rows in order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from mstar.annotation import PublicStepLabels
from mstar.datamodules.prompt_batches import PromptBatchSampler, RowNumbers
from mstar.errors import ConfigError, DataError
from mstar.generation import derive_seed
from mstar.models.step_scorer import SharedInputs
from mstar.prompts import PromptSource
from mstar.rendering import Renderer, ResponseInputs
from mstar.steps import split_steps
from mstar.storage import read_step_labels
from mstar.types import Prompt, StepLabels

__all__ = ["StepLabelBatch", "StepLabelDataModule", "collate_step_labels", "load_step_labels"]


@dataclass
class StepLabelBatch:
    """Labelled responses, ready for the step scorer.

    Not frozen, because Lightning moves a batch to a device by setting its fields.

    Attributes:
        responses: The inputs, each prompt once or once a row; ``step_ends`` says where the steps are.
        soft_N: Share of the continuations that reached the gold answer, for the steps of all rows in order.
        hard_N: 1 where any continuation did, else 0.
        group_B: A number for every row's prompt, equal for rows of one prompt.
        correct_B: Whether the response's final answer is right.
        chain_B: 1 if the whole chain is right, 0 if not, -1 if unknown.
        logprob_B: The policy's log-probability of the response; NaN if unknown.
    """

    responses: ResponseInputs | SharedInputs
    soft_N: Tensor
    hard_N: Tensor
    group_B: Tensor
    correct_B: Tensor
    chain_B: Tensor
    logprob_B: Tensor


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
        prompts: The distinct prompts by their numbers.
        groups: The number of each row's prompt.
        renderer: The model's renderer.
        share_prompts: Whether each prompt is in the batch once, for all its responses.
    """
    texts = [label.response for label in labels]
    if share_prompts:
        place = {number: i for i, number in enumerate(prompts)}
        owners = [place[number] for number in groups]
        responses: ResponseInputs | SharedInputs = SharedInputs.render(renderer, [*prompts.values()], owners, texts)
    else:
        responses = renderer.response_inputs([prompts[number] for number in groups], texts)
    return StepLabelBatch(
        responses=responses,
        soft_N=torch.tensor([value for label in labels for value in label.soft_labels], dtype=torch.float32),
        hard_N=torch.tensor([value for label in labels for value in label.hard_labels], dtype=torch.float32),
        group_B=torch.tensor(groups),
        correct_B=torch.tensor([label.correct for label in labels]),
        chain_B=torch.tensor([-1 if label.chain_correct is None else int(label.chain_correct) for label in labels]),
        logprob_B=torch.tensor(
            [math.nan if label.logprob is None else label.logprob for label in labels], dtype=torch.float64
        ),
    )


class StepLabelDataModule(LightningDataModule):
    """Step labels for training an MPRM, split by prompt into training and validation.

    Args:
        labels: Folder of label shards (what ``annotate`` wrote), one Parquet file of it, or labels that others have
            published (``mstar.annotation.PublicStepLabels``).
        prompts: The prompt source, or sources, that the labels' prompt ids refer to; published labels bring their own.
        batch_size: Responses in a batch. Batches are filled prompt by prompt.
        validation_labels: Labels to validate on, given as ``labels`` is; none takes ``validation_share`` of ``labels``.
        validation_share: Share of the prompts that is held out for validation; 0 for no validation.
        seed: Seed of the split and of the order, which changes every epoch.
        num_workers: Processes that make batches; 0 makes them in the training process.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        labels: str | PublicStepLabels,
        prompts: PromptSource | list[PromptSource] | None = None,
        batch_size: int = 64,
        validation_labels: str | PublicStepLabels | None = None,
        validation_share: float = 0.05,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"data.batch_size is {batch_size}, but it must be at least 1.")
        if not 0 <= validation_share < 1:
            raise ConfigError(f"data.validation_share is {validation_share}, but it is a share; choose from [0, 1).")
        self.labels = labels
        self.sources = list(prompts) if isinstance(prompts, list) else [] if prompts is None else [prompts]
        self.sources += [given.prompts for given in (labels, validation_labels) if isinstance(given, PublicStepLabels)]
        if not self.sources:
            raise ConfigError("data.prompts is not set, but the labels name prompts: give the source that they are of.")
        self.batch_size = batch_size
        self.validation_labels = validation_labels
        self.validation_share = validation_share
        self.seed = seed
        self.num_workers = num_workers
        self.train: list[StepLabels] = []
        self.validation: list[StepLabels] = []

    def setup(self, stage: str) -> None:
        """Reads the labels and splits them; every label's prompt must be known."""
        labels = _load(self.labels)
        if self.validation_labels is not None:
            self.train, self.validation = labels, _load(self.validation_labels)
        else:
            bound = self.validation_share * 2**63
            held_out = {
                label.prompt_id: derive_seed(self.seed, "validation", label.prompt_id) < bound for label in labels
            }
            self.train = [label for label in labels if not held_out[label.prompt_id]]
            self.validation = [label for label in labels if held_out[label.prompt_id]]
        if not self.train:
            raise DataError(f"'{self.labels}' leaves no step labels to train on: lower data.validation_share.")
        for prompt_id in dict.fromkeys(label.prompt_id for label in (*self.train, *self.validation)):
            self._find(prompt_id)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order that changes every epoch."""
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """The held-out labels, in order; no loader without any."""
        return self._loader(self.validation, shuffle=False) if self.validation else []

    def _loader(self, labels: list[StepLabels], shuffle: bool) -> DataLoader[Any]:
        trainer = self.trainer
        module: Any = trainer.lightning_module  # type: ignore[union-attr]
        renderer: Renderer = module.renderer
        share_prompts: bool = module.share_prompts
        numbers: dict[str, int] = {}
        groups: dict[str, list[int]] = defaultdict(list)
        for row, label in enumerate(labels):
            numbers.setdefault(label.prompt_id, len(numbers))
            groups[label.prompt_id].append(row)

        def collate(rows: list[int]) -> StepLabelBatch:
            chosen = [labels[row] for row in rows]
            found = {numbers[label.prompt_id]: self._find(label.prompt_id) for label in chosen}
            prompts = {number: build() for number, build in found.items()}
            return collate_step_labels(
                chosen, prompts, [numbers[label.prompt_id] for label in chosen], renderer, share_prompts
            )

        sampler = PromptBatchSampler(
            list(groups.values()),
            self.batch_size,
            self.seed,
            shuffle,
            trainer.world_size if trainer else 1,
            trainer.global_rank if trainer else 0,
        )
        # batch_size None: the sampler's lists reach the collate function as they are.
        return DataLoader(
            RowNumbers(len(labels)), batch_size=None, sampler=sampler, collate_fn=collate, num_workers=self.num_workers
        )

    def _find(self, prompt_id: str) -> Callable[[], Prompt]:
        """Where a prompt is; it is built when it is called for."""
        for source in self.sources:
            try:
                return partial(source.__getitem__, source.index_of(prompt_id))
            except DataError:
                continue
        raise DataError(
            f"the step labels in '{self.labels}' name the prompt '{prompt_id}', which data.prompts does not have: give "
            "the prompt source that was annotated."
        )


def _load(labels: str | PublicStepLabels) -> list[StepLabels]:
    return load_step_labels(Path(labels)) if isinstance(labels, str) else labels.load()


def load_step_labels(path: Path) -> list[StepLabels]:
    """Reads the labels of a folder of shards, or of one file.

    Raises:
        DataError: there are none, or a row's steps are not the steps of its response.
    """
    shards = sorted(path.glob("labels-*.parquet")) if path.is_dir() else [path]
    labels = [label for shard in shards for label in read_step_labels(shard)]
    if not labels:
        raise DataError(f"'{path}' holds no step labels (labels-*.parquet): run 'python -m mstar annotate' first.")
    for label in labels:
        if label.steps != split_steps(label.response) or not len(label.num_correct) == len(label.steps):
            raise DataError(
                f"'{path}': the steps of a response to '{label.prompt_id}' are not the lines of the response, or are "
                "not labelled one by one: annotate again with this version of mstar."
            )
    return labels
