"""Files of a run: atomic writes, Parquet shards, and the layout of a run directory.

    <root>/iterations/0003/responses-00000.parquet   every response, one shard for a fixed number of prompts
    <root>/iterations/0003/examples.parquet          what the policy was trained on
    <root>/iterations/0003/report.json               counts, rates and scores of the iteration

All Parquet files open with ``datasets.load_dataset("parquet", data_files=...)``. Images are named by URI, not copied.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mstar.atomic import atomic_path
from mstar.errors import DataError, StorageError
from mstar.types import (
    Example,
    Fate,
    Prompt,
    Response,
    ScoredResponse,
    StepLabels,
    Verdict,
    VerdictStatus,
)

__all__ = [
    "ASKED_COLUMNS",
    "PromptResponses",
    "RunDirectory",
    "make_step_labels",
    "open_examples",
    "open_step_labels",
    "read_json",
    "read_kept",
    "read_or_put_aside",
    "read_responses",
    "read_step_labels",
    "tabulate_step_labels",
    "write_examples",
    "write_json",
    "write_responses",
    "write_step_labels",
]

T = TypeVar("T")

_ASKED = pa.schema(
    [
        ("question", pa.string()),
        ("images", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("category", pa.string()),
    ]
)
ASKED_COLUMNS = tuple(_ASKED.names)
_RESPONSES = pa.schema(
    [
        ("prompt_id", pa.string()),
        *_ASKED,
        ("sample_index", pa.int32()),
        ("response", pa.string()),
        ("num_tokens", pa.int32()),
        ("finished", pa.bool_()),
        ("temperature", pa.float64()),
        ("logprob", pa.float64()),
        ("predicted", pa.string()),
        ("correct", pa.bool_()),
        ("status", pa.string()),
        ("step_scores", pa.list_(pa.float64())),
        ("process_reward", pa.float64()),
        ("chain_correct", pa.bool_()),
        ("fate", pa.string()),
    ]
)
_EXAMPLES = pa.schema([("prompt_id", pa.string()), ("response", pa.string())])
_KEPT = pa.schema([("prompt_id", pa.string()), ("response", pa.string()), ("fate", pa.string())])
# Examples in a row group, the unit in which they are read again.
_GROUP = 1024
_STEP_LABELS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("response", pa.string()),
        ("steps", pa.list_(pa.string())),
        ("num_correct", pa.list_(pa.int32())),
        ("num_total", pa.list_(pa.int32())),
        ("soft_labels", pa.list_(pa.float64())),
        ("hard_labels", pa.list_(pa.bool_())),
        ("correct", pa.bool_()),
        ("logprob", pa.float64()),
        ("chain_correct", pa.bool_()),
    ]
)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {type(value).__name__}, but an object is expected.")
    return value


def _write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, write_page_checksum=True)


def _read_table(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    with _open_table(path, schema) as file:
        rows: list[dict[str, Any]] = file.read(schema.names).to_pylist()
    return rows


@contextmanager
def _open_table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            missing = [name for name in schema.names if name not in names]
            if missing:
                raise DataError(f"{path} lacks the columns {missing}; it has {names}.")
            yield file
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except PermissionError as error:
        # It may be whole: it is neither to be deleted nor to be made again.
        raise StorageError(f"{path} cannot be read (Permission denied): mend its permissions.") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        # Arrow reports a damaged footer or page as a plain OSError.
        raise DataError(f"{path} cannot be read as Parquet ({error}); delete it to have it written again.") from error


def read_or_put_aside(path: Path, read: Callable[[Path], T]) -> T | None:
    """Reads a shard that can be made again.

    Args:
        path: The shard.
        read: Reads it.

    Returns:
        What was read; None if there is no such shard, or if it is damaged and was therefore put aside.
    """
    if not path.exists():
        return None
    try:
        return read(path)
    except DataError as error:
        sys.stderr.write(f"mstar: {error} It is put aside as {path.name}.damaged, and made again.\n")
        # Another process of the same run may have been faster.
        with suppress(FileNotFoundError):
            path.replace(path.with_name(f"{path.name}.damaged"))
        return None


@dataclass(frozen=True, slots=True)
class PromptResponses:
    """A prompt with its scored responses: the unit of a responses shard."""

    prompt: Prompt
    responses: tuple[ScoredResponse, ...]


def write_responses(path: Path, groups: Sequence[PromptResponses], made_by: Mapping[str, str] | None = None) -> None:
    """Writes one responses shard, one row a response.

    Args:
        path: The file.
        groups: The responses.
        made_by: What every row says of where it comes from, by the name of the column; for files that stand alone.
    """
    rows = [
        {
            "prompt_id": group.prompt.id,
            **_asked(group.prompt),
            "sample_index": scored.response.sample_index,
            "response": scored.response.text,
            "num_tokens": scored.response.num_tokens,
            "finished": scored.response.finished,
            "temperature": scored.response.temperature,
            "logprob": scored.response.logprob,
            "predicted": scored.verdict.predicted,
            "correct": scored.verdict.correct,
            "status": scored.verdict.status.value,
            "step_scores": list(scored.step_scores),
            "process_reward": scored.process_reward,
            "chain_correct": scored.chain_correct,
            "fate": scored.fate.value if scored.fate else None,
        }
        | dict(made_by or {})
        for group in groups
        for scored in group.responses
    ]
    _write_table(path, rows, pa.schema([*_RESPONSES, *((name, pa.string()) for name in made_by or ())]))


def _asked(prompt: Prompt) -> dict[str, Any]:
    return {
        "question": prompt.question,
        "images": [image.uri for image in prompt.images],
        "answer": prompt.answer,
        "category": prompt.category,
    }


def read_responses(path: Path) -> list[ScoredResponse]:
    """Reads one responses shard.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return [
        ScoredResponse(
            response=Response(
                prompt_id=row["prompt_id"],
                sample_index=row["sample_index"],
                text=row["response"],
                num_tokens=row["num_tokens"],
                finished=row["finished"],
                temperature=row["temperature"],
                logprob=row["logprob"],
            ),
            verdict=Verdict(row["correct"], row["predicted"], VerdictStatus(row["status"])),
            step_scores=tuple(row["step_scores"]),
            process_reward=row["process_reward"],
            chain_correct=row["chain_correct"],
            fate=Fate(row["fate"]) if row["fate"] else None,
        )
        for row in _read_table(path, _RESPONSES)
    ]


def read_kept(path: Path) -> list[Example]:
    """Reads the responses of one shard that were kept for training.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    with _open_table(path, _KEPT) as file:
        table = file.read(_KEPT.names)
    rows = table.filter(pc.equal(table["fate"], Fate.KEPT.value)).to_pylist()
    return [Example(row["prompt_id"], row["response"]) for row in rows]


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Writes the training examples of one iteration, in training order; few of them are in memory at a time."""
    rest = iter(examples)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _EXAMPLES, write_page_checksum=True) as writer:
        while rows := [{"prompt_id": e.prompt_id, "response": e.response} for e in islice(rest, _GROUP)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=_EXAMPLES))


def open_examples(path: Path) -> AbstractContextManager[pq.ParquetFile]:
    """Opens training examples, to be read group by group.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return _open_table(path, _EXAMPLES)


def write_step_labels(path: Path, labels: Sequence[StepLabels], prompts: Sequence[Prompt] | None = None) -> None:
    """Writes step labels, one row a response.

    Args:
        path: The file.
        labels: The labels.
        prompts: What was asked, for people who read the file: the prompts of all labels.
    """
    table = tabulate_step_labels(labels)
    if prompts is not None:
        asked = {prompt.id: prompt for prompt in prompts}
        rows = [_asked(asked[label.prompt_id]) for label in labels]
        for field in _ASKED:
            table = table.append_column(field, pa.array([row[field.name] for row in rows], field.type))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def tabulate_step_labels(labels: Sequence[StepLabels]) -> pa.Table:
    """Step labels as an Arrow table, one row a response."""
    rows = [
        {
            "prompt_id": label.prompt_id,
            "response": label.response,
            "steps": list(label.steps),
            "num_correct": list(label.num_correct),
            "num_total": list(label.num_total),
            "soft_labels": list(label.soft_labels),
            "hard_labels": list(label.hard_labels),
            "correct": label.correct,
            "logprob": label.logprob,
            "chain_correct": label.chain_correct,
        }
        for label in labels
    ]
    return pa.Table.from_pylist(rows, schema=_STEP_LABELS)


def read_step_labels(path: Path) -> list[StepLabels]:
    """Reads step labels.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return list(make_step_labels(_read_table(path, _STEP_LABELS)))


def open_step_labels(path: Path) -> AbstractContextManager[pq.ParquetFile]:
    """Opens step labels, to be read some at a time; ``make_step_labels`` makes them of the rows.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return _open_table(path, _STEP_LABELS)


def make_step_labels(rows: Iterable[Mapping[str, Any]]) -> Iterator[StepLabels]:
    """Step labels of the rows of their table."""
    return (
        StepLabels(
            prompt_id=row["prompt_id"],
            response=row["response"],
            steps=tuple(row["steps"]),
            num_correct=tuple(row["num_correct"]),
            num_total=tuple(row["num_total"]),
            correct=row["correct"],
            logprob=row["logprob"],
            chain_correct=row["chain_correct"],
        )
        for row in rows
    )


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where the files of one self-evolving run are.

    Attributes:
        root: The run's folder.
    """

    root: Path

    @property
    def iterations(self) -> list[int]:
        """The numbers of the iterations that have a folder, in order."""
        folders = (self.root / "iterations").glob("[0-9]*")
        return sorted(int(folder.name) for folder in folders if folder.name.isdigit())

    def iteration(self, index: int) -> Path:
        """The folder of one iteration; iterations are counted from 1."""
        return self.root / "iterations" / f"{index:04d}"

    def responses(self, index: int, shard: int) -> Path:
        """A responses shard of one iteration; shards are counted from 0."""
        return self.iteration(index) / f"responses-{shard:05d}.parquet"

    def drop_responses(self, last: int) -> None:
        """Deletes the response shards of all iterations up to ``last``; examples and reports stay."""
        for index in self.iterations:
            if index <= last:
                for path in self.iteration(index).glob("responses-*.parquet"):
                    path.unlink()

    def quarantine(self, index: int, shard: int) -> Path:
        """The prompts of one shard that could not be shown to the policy; there is no file if there are none."""
        return self.iteration(index) / f"quarantine-{shard:05d}.jsonl"

    def quarantines(self, index: int) -> list[Path]:
        """Those of one iteration, in order."""
        return sorted(self.iteration(index).glob("quarantine-*.jsonl"))

    def response_shards(self, index: int) -> list[Path]:
        """The responses shards of one iteration, in order."""
        return sorted(self.iteration(index).glob("responses-*.parquet"))

    def examples(self, index: int) -> Path:
        """What the policy was trained on in one iteration."""
        return self.iteration(index) / "examples.parquet"

    def report(self, index: int) -> Path:
        """Counts, rates and scores of one iteration."""
        return self.iteration(index) / "report.json"

    def plan(self, index: int) -> Path:
        """What the responses of one iteration depend on."""
        return self.iteration(index) / "plan.json"

    def reward_model(self, index: int, fingerprint: str) -> Path:
        """The MPRM that was retrained before one iteration, on the policy with this fingerprint."""
        return self.root / "mprm" / f"{index:04d}-{fingerprint}"
