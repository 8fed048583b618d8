"""Reads a run's files as rows for others: a shard at a time, so that a run of any size passes through."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mstar.errors import ConfigError, DataError
from mstar.peers.rows import Kept, LabelledSteps, Pair, PeerRow, Sampled
from mstar.peers.run_prompts import RunPrompts, label_prompts, refresh_prompts, rollout_prompts
from mstar.storage import RunDirectory, make_step_labels, open_step_labels, suggest_run
from mstar.storage.tables import ASKED, open_table
from mstar.types import Fate, StepLabels, VerdictStatus

_ANSWERED: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        *ASKED,
        ("sample_index", pa.int32()),
        ("response", pa.string()),
        ("finished", pa.bool_()),
        ("correct", pa.bool_()),
        ("status", pa.string()),
        ("fate", pa.string()),
    ]
)
# Labelled responses that are read at a time.
_LABELS: Final = 512


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of a run whose rows are exported."""

    run: Path
    shards: tuple[Path, ...]
    labels: tuple[tuple[Path, Callable[[], RunPrompts]], ...]

    def have_pictures(self) -> bool:
        """Whether any prompt has a picture."""
        for path in (*self.shards, *(path for path, _ in self.labels)):
            with open_table(path, pa.schema([])) as file:
                for group in range(file.num_row_groups if "images" in file.schema_arrow.names else 0):
                    column = file.read_row_group(group, columns=["images"]).column(0)
                    if pc.any(pc.greater(pc.list_value_length(column), 0)).as_py():
                        return True
        return False

    def rows(self, prompts: RunPrompts | None = None) -> Iterator[PeerRow]:
        """All rows, those of an iteration after those of the one before, and step labels last.

        What was kept twice, in one iteration or in two, is there once.

        Raises:
            ConfigError: the run's configuration does not say, or cannot be followed.
            DataError: a file is damaged, or a prompt is not found.
        """
        seen: set[bytes] = set()
        if self.shards:
            found = prompts or rollout_prompts(self.run)
            for shard in self.shards:
                for group in _groups(shard):
                    yield from _new(_outcomes(group, found), seen)
        for path, open_prompts in self.labels:
            found = prompts or open_prompts()
            for rows in _label_rows(path):
                for label, row in zip(make_step_labels(rows), rows, strict=True):
                    if (steps := _labelled(label, row, found)) is not None:
                        yield steps


def find_run_files(root: Path, iteration: int | None = None) -> RunFiles:
    """The files of a self-evolving run, of an annotation, or of a staged run with both.

    Args:
        iteration: Only this iteration, and of the step labels those that were made in it; None for all.

    Raises:
        ConfigError: there is no such iteration.
        DataError: there is no such folder, or it has neither responses nor step labels.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that a run or an annotation wrote.")
    run = RunDirectory(next((f for f in (root, root / "evolve") if (f / "iterations").is_dir()), root))
    numbers = [number for number in run.iterations if number > 0]
    if iteration is not None and iteration not in numbers:
        known = ", ".join(map(str, numbers)) or "none"
        raise ConfigError(f"{root} has no iteration {iteration}; choose one of its iterations: {known}.")
    chosen = numbers if iteration is None else [iteration]
    shards = tuple(path for number in chosen for path in run.response_shards(number))
    labels: list[tuple[Path, Callable[[], RunPrompts]]] = []
    if iteration is None:
        found = sorted(path for depth in ("", "*/") for path in root.glob(f"{depth}labels-*.parquet"))
        labels += [(path, partial(label_prompts, path.parent)) for path in found]
    for number in chosen:
        found = sorted(run.root.glob(f"mprm/{number:04d}-*/labels/labels-*.parquet"))
        labels += [(path, partial(refresh_prompts, run.root)) for path in found]
    if not shards and not labels:
        raise DataError(
            f"{root} has no responses and no step labels: give the folder of a run whose responses were not deleted, "
            f"or that of an annotation.{suggest_run(root)}"
        )
    return RunFiles(run.root, shards, tuple(labels))


def _groups(shard: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of one prompt after another; they stand together in a shard."""
    with open_table(shard, _ANSWERED) as file:
        credited = ["advantage"] if "advantage" in file.schema_arrow.names else []
        rows = file.read([*_ANSWERED.names, *credited]).to_pylist()
    for _, group in groupby(rows, key=lambda row: row["prompt_id"]):
        yield list(group)


def _outcomes(group: Sequence[Mapping[str, Any]], prompts: RunPrompts) -> Iterator[PeerRow]:
    """What one iteration has of one prompt."""
    prompt = prompts.find(group[0])
    yield Sampled(prompt)
    # Methods that learn from all samples keep wrong ones too, to move away from them.
    kept = [row["response"] for row in group if row["fate"] == Fate.KEPT and _is_imitated(row.get("advantage"))]
    rejected = list(dict.fromkeys(row["response"] for row in group if _is_wrong(row)))
    for number, response in enumerate(dict.fromkeys(kept)):
        yield Kept(prompt, response)
        if rejected:
            yield Pair(prompt, response, rejected[number % len(rejected)])


def _is_imitated(advantage: float | None) -> bool:
    return advantage is None or advantage > 0


def _is_wrong(row: Mapping[str, Any]) -> bool:
    """Whether a response is known to be wrong, and whole: what the length limit cut off teaches where to stop."""
    graded = row["status"] in (VerdictStatus.GRADED, VerdictStatus.NO_ANSWER)
    return bool(graded and not row["correct"] and row["finished"] and row["response"].strip())


def _new(rows: Iterator[PeerRow], seen: set[bytes]) -> Iterator[PeerRow]:
    for row in rows:
        match row:
            case Kept(prompt, response):
                texts = ["kept", prompt.id, response]
            case Pair(prompt, chosen, rejected):
                texts = ["pair", prompt.id, chosen, rejected]
            case _:
                texts = ["prompt", row.prompt.id]
        key = hashlib.blake2b("\0".join(texts).encode(errors="surrogatepass"), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            yield row


def _label_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    with open_step_labels(path) as file:
        for batch in file.iter_batches(_LABELS):
            yield batch.to_pylist()


def _labelled(label: StepLabels, row: Mapping[str, Any], prompts: RunPrompts) -> LabelledSteps | None:
    """The steps up to the first without a label; None if that is the first of all."""
    count = next((place for place, total in enumerate(label.num_total) if total == 0), len(label.steps))
    pairs = [
        (step.rstrip("\n"), good)
        for step, good in zip(label.steps[:count], label.hard_labels[:count], strict=True)
        if step.strip()
    ]
    if not pairs:
        return None
    steps, labels = zip(*pairs, strict=True)
    return LabelledSteps(prompts.find(row), steps, labels)
