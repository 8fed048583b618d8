"""The step labels of an annotation: how they are distributed, and the prompts that the report shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mstar.dashboards.sample_browser import show_label, show_prompt
from mstar.dashboards.wording import SCORE_LEVELS, score_level
from mstar.evaluation.prompt_survey import spread
from mstar.storage import ASKED
from mstar.storage.tables import read_table

if TYPE_CHECKING:
    from mstar.annotation.label_table import LabelTable
    from mstar.judges.steps import Agreement

_ID: Final = pa.schema([("prompt_id", pa.string())])
# Of either kind of responses, this share must be long enough for a position to be averaged over.
_ENOUGH: Final = 0.05


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The step labels of one folder.

    Attributes:
        path: The folder, relative to the run's.
        levels: How many steps before the last have a label in each fifth of [0, 1].
        right: The mean label of the first, second, ... step of the responses with the right answer, as (number, mean).
        prompts: Some of them (``show_prompt``), evenly spaced.
        judged: How the judge agrees with the labels; None without one.
    """

    path: str
    num_prompts: int
    num_responses: int
    num_right: int
    levels: tuple[int, ...]
    right: tuple[tuple[float, float], ...]
    wrong: tuple[tuple[float, float], ...]
    judged: Agreement | None
    prompts: tuple[dict[str, Any], ...]

    @property
    def num_steps(self) -> int:
        """Steps before the last with a label."""
        return sum(self.levels)


def find_label_sets(root: Path, count: int) -> tuple[LabelSet, ...]:
    """The step labels in a folder, in those directly below it, and of the MPRMs that were trained within the run.

    Args:
        count: So many prompts of each are a sample.
    """
    places = ("", "*/", "mprm/*/labels/", "*/mprm/*/labels/")
    paths = sorted({path for place in places for path in root.glob(f"{place}labels-*.parquet")})
    folders = groupby(paths, key=lambda path: path.parent)
    found = [_read_labels(root, folder, list(shards), count) for folder, shards in folders]
    return tuple(labels for labels in found if labels.num_responses)


def _read_labels(root: Path, folder: Path, shards: Sequence[Path], count: int) -> LabelSet:
    # With torch, which pages without labels are written without.
    from mstar.annotation.label_table import LabelTable
    from mstar.judges.steps import Agreement

    table = LabelTable.read(shards)
    levels = [0] * SCORE_LEVELS
    by_answer: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
    for label in table:
        # The last step's label is whether the response itself is right.
        before_last = label.soft_labels[:-1]
        by_answer[label.correct].append(before_last)
        for value in before_last:
            if not math.isnan(value):
                levels[score_level(value)] += 1
    ids, rows = table.prompts()
    return LabelSet(
        path=str(folder.relative_to(root)),
        num_prompts=len(ids),
        num_responses=len(table),
        num_right=len(by_answer[True]),
        levels=tuple(levels),
        right=tuple(_by_position(by_answer[True])),
        wrong=tuple(_by_position(by_answer[False])),
        judged=Agreement.read(folder),
        prompts=tuple(_sample(shards, table, ids, rows, count)),
    )


def _by_position(labels: Sequence[tuple[float, ...]]) -> Iterator[tuple[float, float]]:
    for number in range(max(map(len, labels), default=0)):
        there = [row[number] for row in labels if len(row) > number and not math.isnan(row[number])]
        if len(there) < max(1, _ENOUGH * len(labels)):
            return
        yield number + 1, sum(there) / len(there)


def _sample(
    shards: Sequence[Path], table: LabelTable, ids: Sequence[str], rows: NDArray[np.int64], count: int
) -> Iterator[dict[str, Any]]:
    # Of labels that were written without their prompts the ids alone are known.
    found = {row["prompt_id"]: row for path in shards for row in read_table(path, _ID, ASKED.names)}
    for number in spread(len(ids), count):
        yield show_prompt(found[ids[number]], [*map(show_label, table.select(np.flatnonzero(rows == number)))])
