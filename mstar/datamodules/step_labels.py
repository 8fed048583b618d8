"""Stage 5 for the MPRM: step labels to batches.

Shapes: B rows (responses), N the steps of all rows in order.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from mstar.annotation import ContrastSettings, LabelDiet, PublicStepLabels
from mstar.annotation.contrast import make_contrasts
from mstar.annotation.diet import apply_diet
from mstar.annotation.label_table import LabelTable, load_step_labels
from mstar.datamodules.prompt_batches import PromptBatchSampler, RowNumbers
from mstar.datamodules.quarantined import Quarantine, require_limits
from mstar.datamodules.resumable import ResumableLoader
from mstar.errors import ConfigError, DataError
from mstar.generation import derive_seed
from mstar.models.response_scorer import SharedInputs
from mstar.prompts import DataSources, PromptSource
from mstar.prompts.prompt_check import PromptCheck, describe
from mstar.prompts.quarantine import QuarantineFile, RowError
from mstar.rendering import Renderer, ResponseInputs
from mstar.types import Prompt, StepLabels

__all__ = ["StepLabelBatch", "StepLabelDataModule", "collate_step_labels"]

_log = logging.getLogger(__name__)


@dataclass
class StepLabelBatch:
    """Labelled responses, ready for the step scorer.

    Not frozen, because Lightning moves a batch to a device by setting its fields.

    Attributes:
        responses: The inputs, each prompt once or once a row; ``step_ends`` says where the steps are.
        soft_N: Share of the continuations that reached the gold answer, for the steps of all rows in order; NaN for
            those that are not labelled.
        hard_N: 1 where any continuation did, else 0.
        group_B: A number for every row's prompt, equal for rows of one prompt.
        correct_B: Whether the response's final answer is right.
        chain_B: 1 if the whole chain is right, 0 if not, -1 if unknown.
        logprob_B: The policy's log-probability of the response; NaN if unknown.
        labelled_N: Which steps are labelled; None if all are.
    """

    responses: ResponseInputs | SharedInputs
    soft_N: Tensor
    hard_N: Tensor
    group_B: Tensor
    correct_B: Tensor
    chain_B: Tensor
    logprob_B: Tensor
    labelled_N: Tensor | None = None


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
    labelled = [total > 0 for label in labels for total in label.num_total]
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
        labelled_N=None if all(labelled) else torch.tensor(labelled),
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
        seed: Seed of the split, of the order, which changes every epoch, and of the contrasts.
        num_workers: Processes that make batches; 0 makes them in the training process.
        max_example_tokens: Longest prompt and response together, the tokens of pictures included; longer ones are put
            aside, and not cut. None for no limit.
        max_bad_share: If more than this share of the labels turns out to be unusable (the picture cannot be decoded,
            they are too long), it is an error; None allows 5 %, and of a few up to 10, but not more than a quarter.
            What is put aside stands, with the reason, in the run's ``quarantine`` folder.
        sources: In place of ``prompts``, the data set whose part ``annotation`` (or ``train``) was annotated, most
            often a file (``--data.sources configs/data/mathv360k.yaml``).
        diet: Which of the labels, and how changed, are trained on; none trains on all as they are. Validation has all.
        contrast: Train on right chains with a wrong value in them, too; none trains on the labels alone. Validation
            never sees them.

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
        max_example_tokens: int | None = None,
        max_bad_share: float | None = None,
        sources: DataSources | None = None,
        diet: LabelDiet | None = None,
        contrast: ContrastSettings | None = None,
    ) -> None:
        super().__init__()
        require_limits(None, max_example_tokens, max_bad_share, num_workers)
        if batch_size < 1:
            raise ConfigError(f"data.batch_size is {batch_size}, but it must be at least 1.")
        if not 0 <= validation_share < 1:
            raise ConfigError(f"data.validation_share is {validation_share}, but it is a share; choose from [0, 1).")
        if prompts is None and sources is not None:
            prompts = sources.require("annotation", "data.sources")
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
        self.max_example_tokens = max_example_tokens
        self.max_bad_share = max_bad_share
        self.diet = diet
        self.contrast = contrast
        self.train: LabelTable | None = None
        self.validation: LabelTable | None = None
        self._put_aside = Quarantine(max_bad_share)

    def setup(self, stage: str) -> None:
        """Reads the labels and splits them; every label's prompt must be known.

        Raises:
            DataError: there are none to train on, or one's prompt is not there.
        """
        labels = _load(self.labels)
        if self.validation_labels is not None:
            train, validation = labels, _load(self.validation_labels)
        else:
            ids, numbers = labels.prompts()
            bound = self.validation_share * 2**63
            held_out = np.array([derive_seed(self.seed, "validation", name) < bound for name in ids], dtype=bool)
            train = labels.select(np.flatnonzero(~held_out[numbers]))
            validation = labels.select(np.flatnonzero(held_out[numbers]))
        if not train:
            raise DataError(f"'{self.labels}' leaves no step labels to train on: lower data.validation_share.")
        for prompt_id in dict.fromkeys((*train.prompts()[0], *validation.prompts()[0])):
            self._find(prompt_id)
        if self.diet is not None:
            agree = self.diet.agree
            train = apply_diet(train, self.diet, None if agree is None else _load(agree))
        if self.contrast is not None:
            size = len(train)
            train = train.with_more(make_contrasts(train.by_prompt(), self.contrast, self.seed))
            made = len(train) - size
            level = logging.INFO if made else logging.WARNING
            _log.log(level, "contrast: made %d contrasts of %d labelled responses", made, size)
        self.train, self.validation = train, validation

    def require_two_kinds(self) -> None:
        """Makes sure that there is something to learn from the labels.

        Raises:
            DataError: all labels to train on are of one value.
        """
        value = _only_value(self.train or ())
        if value is not None:
            raise DataError(
                f"all step labels in '{self.labels}' are {value:g}, and an MPRM learns nothing from labels of one "
                "kind: annotate other prompts, or more responses to each."
            )

    def teardown(self, stage: str) -> None:
        """Says what was put aside."""
        self._put_aside.announce()

    def sample(self, count: int) -> tuple[list[tuple[Prompt, str | None]], int]:
        """Some labelled responses spread over the labels, each with its prompt; and how many there are."""
        labels = _load(self.labels)
        places = range(0, len(labels), max(1, len(labels) // count))
        chosen = [labels[place] for place in places[:count]]
        return [(self._find(label.prompt_id)(), label.response) for label in chosen], len(labels)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order that changes every epoch."""
        if self.train is None:
            raise RuntimeError("StepLabelDataModule has no labels before setup.")
        return self._loader(self.train, "labels", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """The held-out labels, in order; no loader without any."""
        return self._loader(self.validation, "validation_labels", shuffle=False) if self.validation else []

    def _loader(self, labels: LabelTable, name: str, shuffle: bool) -> DataLoader[Any]:
        trainer = self.trainer
        module: Any = trainer.lightning_module  # type: ignore[union-attr]
        ids, numbers = labels.prompts()
        order = np.argsort(numbers, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        sampler = PromptBatchSampler(
            groups,
            self.batch_size,
            self.seed,
            shuffle,
            trainer.world_size if trainer else 1,
            trainer.global_rank if trainer else 0,
        )
        check = PromptCheck(module.renderer, max_example_tokens=self.max_example_tokens)
        # An MPRM that is retrained within a run is trained by one of the run's processes alone.
        processes = trainer.world_size if trainer else 1
        root = trainer.default_root_dir if trainer else "."
        quarantine = self._put_aside.file(root, name, len(labels), processes)
        rows = _UsableRows(labels, lambda number: self._find(ids[number])(), numbers, check, quarantine)
        # batch_size None: the sampler's lists reach the collate function as they are.
        return ResumableLoader(
            RowNumbers(len(labels)),
            batch_size=None,
            sampler=sampler,
            collate_fn=partial(_collate, rows, module.renderer, module.share_prompts),
            num_workers=self.num_workers,
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


class _UsableRows:
    """Labels with their prompts, their pictures decoded; those that cannot be used are put aside.

    Args:
        labels: The labels.
        prompt: Builds a prompt, by its number.
        numbers: For every label the number of its prompt.
        check: Tells those that can be used.
        quarantine: Where the others are put.
    """

    def __init__(
        self,
        labels: LabelTable,
        prompt: Callable[[int], Prompt],
        numbers: NDArray[np.int64],
        check: PromptCheck,
        quarantine: QuarantineFile,
    ) -> None:
        self.labels = labels
        self.prompt = prompt
        self.numbers = numbers
        self.check = check
        self.quarantine = quarantine

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


def _collate(usable: _UsableRows, renderer: Renderer, share_prompts: bool, rows: list[int]) -> StepLabelBatch:
    labels, groups, prompts = usable.fetch(rows)
    return collate_step_labels(labels, prompts, groups, renderer, share_prompts)


def _only_value(labels: Sequence[StepLabels]) -> float | None:
    """The value that all steps' labels have; None if there are two."""
    values = (value for label in labels for value in label.soft_labels if not math.isnan(value))
    first = next(values, None)
    return first if all(value == first for value in values) else None


def _load(labels: str | PublicStepLabels) -> LabelTable:
    return load_step_labels(Path(labels)) if isinstance(labels, str) else labels.load()
