"""Step labels that others have published, for training an MPRM without annotating anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from mstar.annotation.label_table import LabelTable, write_label_table
from mstar.annotation.step_label_forms import LabelledRow, find_form, read_labelled_row
from mstar.atomic import atomic_path
from mstar.errors import DataError
from mstar.prompts import PixelLimits, PromptSource
from mstar.prompts.field_values import clean_path
from mstar.prompts.image_check import ImageCheck
from mstar.prompts.prompt_table import PromptRecord, build_table, cache_folder, content_id, hash_id
from mstar.prompts.quarantine import RowError
from mstar.prompts.row_files import open_rows
from mstar.prompts.table_prompts import TablePrompts, TableSettings, open_table
from mstar.prompts.table_rows import Row
from mstar.steps import split_steps
from mstar.storage import tabulate_step_labels
from mstar.types import Prompt, StepLabels

_SHARD: Final = 4096
# Of what is made of a row.
_FORMAT: Final = 3


class PublicStepLabels:
    """A public data set of labelled steps, with its questions and pictures.

    The forms: ``visualprm_raw`` (VisualPRM400K-v1.1-Raw: steps_with_score), ``visualprm`` (VisualPRM400K: every step a
    turn, answered by + or -), ``mm_prm`` (MM-PRM: "Question: ... Process: ..." and a list of labels), ``math_shepherd``
    (input and label), ``stepwise`` (TRL: prompt, completions, labels) and ``steps`` (question, steps and labels under
    any of their usual names). A step counts as right if any of its continuations was; a verdict is one continuation. A
    step without a label (no continuations; 0 beside -1, or as ``process_correctness`` or ``rating``, which is neutral)
    is left out of the loss. Of a step of several lines the last one has the label, and the others have none: it has
    seen all of the step, and is the one that ``Reward.score_steps`` takes the score of.

    Args:
        path: A ``.jsonl``, ``.json`` or ``.parquet`` file, a folder of ``.jsonl`` or ``.parquet`` files, a folder that
            ``datasets`` saved, or the id of a Hugging Face data set.
        image_root: The folder that image paths are relative to; none is the folder of the data.
        split: The split, where the data has several.
        pixels: Least and most pixels of a picture.
        check_images: none; exists (the files are there and look whole); or decode (each is decoded, slow).
        max_bad_share: If more than this share of the rows cannot be used, it is an error; none allows 5 %, and of a
            small data set up to 10 rows, but not more than a quarter.
        quarantine: The file that rows which cannot be used are written to, with the reason; none puts it in the cache.

    Raises:
        DataError: the data cannot be read, is of no known form, or too many of its rows cannot be used.
    """

    def __init__(
        self,
        path: str,
        image_root: str | None = None,
        split: str = "train",
        pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
        check_images: ImageCheck = "exists",
        max_bad_share: float | None = None,
        quarantine: str | None = None,
    ) -> None:
        self.path = path
        root = os.path.abspath(image_root or (path if Path(path).is_dir() else str(Path(path).parent)))
        settings = TableSettings(root, check_images, max_bad_share, quarantine, pixels, "")
        rows = open_rows(path, split)
        first = next((row for row in rows if not isinstance(row, RowError)), None)
        if first is None:
            raise DataError(f"'{path}' has no rows that can be read.")
        if find_form(first) is None:
            names = rows.columns()
            raise DataError(f"'{path}' is of no known form: call its columns {names} question, steps and labels.")
        columns = tabulate_step_labels([]).column_names
        folder = cache_folder("step_labels", _FORMAT, columns, rows.fingerprint, root)
        reader = _Reader(root)
        build_table(folder, rows, reader.prompt)
        checked = open_table(folder, path, settings, mention_repeats=False)
        self._prompts = TablePrompts(checked, np.flatnonzero(checked.usable))
        self._labels = folder / "labels.arrow"
        if not self._labels.is_file():
            with atomic_path(self._labels) as temporary:
                write_label_table(temporary, _shards(rows, reader))

    def __str__(self) -> str:
        return self.path

    @property
    def prompts(self) -> PromptSource:
        """The questions, each once."""
        return self._prompts

    def load(self) -> LabelTable:
        """The labels of the prompts whose pictures are usable; they stay on disk."""
        labels = LabelTable.mapped(self._labels)
        ids, numbers = labels.prompts()
        known = self._prompts.keys()
        usable = np.array([hash_id(prompt_id) in known for prompt_id in ids], dtype=bool)
        return labels.select(np.flatnonzero(usable[numbers]))


@dataclass(frozen=True, slots=True)
class _Reader:
    root: str

    def prompt(self, row: Mapping[str, Any]) -> PromptRecord:
        """The row's question; rows with the same question and pictures are answers to one prompt."""
        return self._record(read_labelled_row(row))

    def labels(self, row: Mapping[str, Any]) -> StepLabels:
        """The row's labels."""
        read = read_labelled_row(row)
        response = "\n".join(read.steps)
        lines = [
            line for step, own in zip(read.steps, read.labels, strict=True)
            for line in (*((0, 0) for _ in split_steps(step)[1:]), own)
        ]  # fmt: skip
        return StepLabels(
            prompt_id=self._record(read).content,
            response=response,
            steps=split_steps(response),
            num_correct=tuple(right for right, _ in lines),
            num_total=tuple(total for _, total in lines),
            # Of the last labelled step: VisualPRM's pipeline labels none behind a wrong one.
            correct=[right for right, total in read.labels if total][-1] > 0,
        )

    def _record(self, read: LabelledRow) -> PromptRecord:
        images = tuple(clean_path(item, self.root) if isinstance(item, str) else item for item in read.images)
        return PromptRecord(Prompt("", read.question), content_id(read.question, *images), images)


def _shards(rows: Iterable[Row], reader: _Reader) -> Iterator[list[StepLabels]]:
    labels = _all_labels(rows, reader)
    while shard := list(islice(labels, _SHARD)):
        yield shard


def _all_labels(rows: Iterable[Row], reader: _Reader) -> Iterator[StepLabels]:
    for row in rows:
        if isinstance(row, RowError):
            continue
        try:
            yield reader.labels(row)
        except RowError:
            # It stands in the quarantine file already, which is made with the prompts.
            continue
