"""Stage 5 for the MPRM: step labels to batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from mstar.annotation import ContrastSettings, LabelDiet, PublicStepLabels
from mstar.annotation.contrast import make_contrasts
from mstar.annotation.diet import apply_diet
from mstar.annotation.label_table import LabelTable, load_step_labels
from mstar.datamodules.quarantined import Quarantine, require_limits
from mstar.datamodules.resumable import ResumableLoader
from mstar.datamodules.samplers import PromptBatchSampler
from mstar.datamodules.step_batches import StepLoader
from mstar.datamodules.step_label_batches import StepLabelCollate, UsableRows
from mstar.errors import ConfigError, DataError, counted, require_least, require_share
from mstar.generation import derive_seed
from mstar.prompts import DataSources, PromptSource
from mstar.prompts.prompt_check import PromptCheck
from mstar.prompts.sources import STAGE_PARTS
from mstar.types import Prompt, StepLabels

_log = logging.getLogger(__name__)


class StepLabelDataModule(LightningDataModule):
    """Step labels for training an MPRM, split by prompt into training and validation.

    Args:
        labels: Folder of label shards (what ``annotate`` wrote), one Parquet file of it, or labels that others have
            published (``mstar.annotation.PublicStepLabels``).
        prompts: The prompt source, or sources, that the labels' prompt ids refer to; published labels bring their own.
        batch_size: Responses in a batch. Batches are filled prompt by prompt.
        validation_labels: Labels to validate on, of other prompts, given as ``labels`` is; none takes
            ``validation_share`` of ``labels``.
        validation_share: Share of the prompts that is held out for validation; 0 for no validation.
        seed: Seed of the split, of the order, which changes every epoch, and of the contrasts.
        num_workers: Processes that make batches, each with those of a whole optimizer step, pictures included, in
            memory; 0 makes them in the training process.
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
        require_least("data.", batch_size=batch_size)
        require_share("data.validation_share", validation_share, "[0, 1)")
        if prompts is None and sources is not None:
            prompts = sources.require(STAGE_PARTS["mprm"]["prompts"], "data.sources")
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
            ConfigError: there are none to validate on, which is what is asked for.
            DataError: there are none to train on, or one's prompt is not there.
        """
        labels = _load(self.labels)
        if self.validation_labels is not None:
            train, validation = labels, _load(self.validation_labels)
            if shared := len(set(train.prompts()[0]) & set(validation.prompts()[0])):
                _log.warning(
                    "data.validation_labels has %s that data.labels has, too: of these, validation measures what was "
                    "trained on.",
                    counted(shared, "prompt"),
                )
        else:
            ids, numbers = labels.prompts()
            bound = self.validation_share * 2**63
            held_out = np.array([derive_seed(self.seed, "validation", name) < bound for name in ids], dtype=bool)
            train = labels.select(np.flatnonzero(~held_out[numbers]))
            validation = labels.select(np.flatnonzero(held_out[numbers]))
        if not train:
            raise DataError(f"'{self.labels}' leaves no step labels to train on: lower data.validation_share.")
        if stage == "validate" and not validation:
            raise ConfigError("no step labels are held out: raise data.validation_share or set data.validation_labels.")
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

    def class_weights(self, kind: Literal["soft", "hard"]) -> tuple[float, float] | None:
        """What a wrong and a right step weigh if both kinds are to weigh the same; None if there is one kind alone."""
        shares = [share for label in self.train or () for share in label.soft_labels if not math.isnan(share)]
        right = math.fsum(shares if kind == "soft" else map(math.ceil, shares))
        wrong = len(shares) - right
        return (len(shares) / (2 * wrong), len(shares) / (2 * right)) if right and wrong else None

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
        sampler, collate = self._batches(self.train, "labels", shuffle=True)
        return StepLoader(sampler.dataset, 1, collate.batches_per_step, sampler, self.num_workers, collate.step)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """The held-out labels, in order; no loader without any."""
        if not self.validation:
            return []
        sampler, collate = self._batches(self.validation, "validation_labels", shuffle=False)
        # batch_size None: the sampler's lists reach the collate function as they are.
        return ResumableLoader(
            sampler.dataset, batch_size=None, sampler=sampler, collate_fn=collate.batch, num_workers=self.num_workers
        )

    def _batches(self, labels: LabelTable, name: str, shuffle: bool) -> tuple[PromptBatchSampler, StepLabelCollate]:
        trainer: Any = self.trainer
        module = trainer.lightning_module
        ids, numbers = labels.prompts()
        order = np.argsort(numbers, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        sampler = PromptBatchSampler(
            groups, self.batch_size, self.seed, shuffle, trainer.world_size, trainer.global_rank
        )
        check = PromptCheck(module.renderer, max_example_tokens=self.max_example_tokens)
        # An MPRM that is retrained within a run is trained by one of the run's processes alone.
        quarantine = self._put_aside.file(trainer.default_root_dir, name, len(labels), trainer.world_size)
        rows = UsableRows(labels, lambda number: self._find(ids[number])(), numbers, check, quarantine)
        return sampler, StepLabelCollate(
            rows, module.renderer, module.share_prompts, module.count_terms, trainer.accumulate_grad_batches
        )

    def _find(self, prompt_id: str) -> Callable[[], Prompt]:
        """Where a prompt is; it is built when it is called for."""
        for source in self.sources:
            if (index := source.index_of(prompt_id)) is not None:
                return partial(source.__getitem__, index)
        raise DataError(f"data.prompts does not have '{prompt_id}' of '{self.labels}': give the prompts of the labels.")


def _only_value(labels: Sequence[StepLabels]) -> float | None:
    """The value that all steps' labels have; None if there are two."""
    values = (value for label in labels for value in label.soft_labels if not math.isnan(value))
    first = next(values, None)
    return first if all(value == first for value in values) else None


def _load(labels: str | PublicStepLabels) -> LabelTable:
    return load_step_labels(Path(labels)) if isinstance(labels, str) else labels.load()
