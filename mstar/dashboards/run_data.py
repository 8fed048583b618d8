"""Reads a run directory for the HTML report: numbers, a sample of prompts with their responses, and the configs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mstar.errors import DataError
from mstar.storage import RunDirectory, read_json, read_responses
from mstar.types import ScoredResponse

__all__ = ["IterationData", "RunData", "SampledPrompt", "Sweep", "read_run"]

_PROMPT_COLUMNS: Final = ("prompt_id", "question", "images", "answer", "category")


@dataclass(frozen=True, slots=True)
class Sweep:
    """The scores of one temperature sweep.

    Attributes:
        chosen: The temperature that was chosen, or None if the report does not say.
        scores: For every candidate temperature, in order, the value of every metric.
    """

    chosen: float | None
    scores: tuple[tuple[float, Mapping[str, float]], ...]


@dataclass(frozen=True, slots=True)
class IterationData:
    """What is known of one iteration.

    Attributes:
        index: Its number, from 1.
        values: Every number of its report by its path, e.g. ``dynamics/greedy_accuracy`` or ``funnel/kept``; empty if
            the iteration was interrupted before it wrote its report.
        sweep: The temperature sweep, if there was one.
        skipped: Whether nothing was kept, so that the policy was not trained.
        complete: Whether the iteration wrote its report.
    """

    index: int
    values: Mapping[str, float]
    sweep: Sweep | None = None
    skipped: bool = False
    complete: bool = True


@dataclass(frozen=True, slots=True)
class SampledPrompt:
    """One prompt of the sample: what was asked, and every response to it."""

    iteration: int
    id: str
    question: str
    image_uris: tuple[str, ...]
    answer: str | None
    category: str
    responses: tuple[ScoredResponse, ...]


@dataclass(frozen=True, slots=True)
class RunData:
    """All that a report shows of one run.

    Attributes:
        name: The folder's name.
        iterations: Every iteration, in order; number 0 is what was measured before the first.
        prompts: An even sample of the prompts, in order of iteration.
        num_prompts: How many prompts there are in all.
        num_responses: How many responses there are in all.
        summary: The run's ``summary.json``, or an empty mapping.
        configs: (path relative to the run, text) of every saved config.
        started: When the oldest file of the iterations was written, if there is one.
        ended: When the newest file of the iterations was written, if there is one.
    """

    name: str
    iterations: tuple[IterationData, ...] = ()
    prompts: tuple[SampledPrompt, ...] = ()
    num_prompts: int = 0
    num_responses: int = 0
    summary: Mapping[str, Any] = field(default_factory=dict)
    configs: tuple[tuple[str, str], ...] = ()
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def trained_iterations(self) -> tuple[IterationData, ...]:
        """The iterations that sampled and trained, so without number 0."""
        return tuple(iteration for iteration in self.iterations if iteration.index > 0)


def read_run(root: Path, max_prompts: int) -> RunData:
    """Reads a run directory, or the folder of a staged run whose iterations are in ``evolve/``.

    Args:
        root: The run's folder.
        max_prompts: The size of the sample of prompts, spread evenly over iterations and categories.

    Raises:
        DataError: the folder is missing or is not a run, or one of its files is damaged.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that a run wrote.")
    run = RunDirectory(root)
    if not (root / "iterations").is_dir() and (root / "evolve" / "iterations").is_dir():
        run = RunDirectory(root / "evolve")
    configs = tuple(_read_configs(root))
    summary = read_json(root / "summary.json") if (root / "summary.json").exists() else {}
    if not (run.root / "iterations").is_dir() and not configs and not summary:
        raise DataError(
            f"{root} is not the folder of a run: it has no iterations folder, no summary.json and no config.yaml; "
            "give the folder that a run wrote."
        )
    numbers = run.iterations
    indices = {number: [_index_shard(path) for path in run.response_shards(number)] for number in numbers}
    ends = [max_prompts * position // max(1, len(numbers)) for position in range(len(numbers) + 1)]
    prompts = [
        prompt
        for position, number in enumerate(numbers)
        for prompt in _sample_prompts(number, indices[number], ends[position + 1] - ends[position])
    ]
    times = [path.stat().st_mtime for number in numbers for path in run.iteration(number).iterdir()]
    return RunData(
        name=root.resolve().name,
        iterations=tuple(_read_iteration(run, number) for number in numbers),
        prompts=tuple(prompts),
        num_prompts=sum(len(shard.categories) for shards in indices.values() for shard in shards),
        num_responses=sum(shard.num_rows for shards in indices.values() for shard in shards),
        summary=summary,
        configs=configs,
        started=datetime.fromtimestamp(min(times), UTC) if times else None,
        ended=datetime.fromtimestamp(max(times), UTC) if times else None,
    )


def _read_iteration(run: RunDirectory, index: int) -> IterationData:
    path = run.report(index)
    if not path.exists():
        return IterationData(index, {}, complete=False)
    report = read_json(path)
    sweep = report.pop("sweep", None)
    skipped = report.pop("skipped", False) is True
    return IterationData(index, dict(_numbers(report)), _read_sweep(sweep), skipped)


def _read_sweep(value: Any) -> Sweep | None:
    if not isinstance(value, dict) or not isinstance(value.get("scores"), dict):
        return None
    scores = ((_number(key), dict(_numbers(metrics))) for key, metrics in value["scores"].items())
    known = sorted(((t, metrics) for t, metrics in scores if t is not None and metrics), key=lambda pair: pair[0])
    return Sweep(_number(value.get("chosen")), tuple(known)) if known else None


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number of a JSON value with its path; anything else is left out."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{path}/{key}" if path else str(key))
    elif not isinstance(value, str) and (number := _number(value)) is not None:
        yield path, number


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class _Shard:
    path: Path
    num_rows: int
    categories: Mapping[str, str]


def _read_columns(path: Path, columns: Sequence[str], prompt_ids: Sequence[str] | None = None) -> list[dict[str, Any]]:
    filters = None if prompt_ids is None else [("prompt_id", "in", list(prompt_ids))]
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, columns=list(columns), filters=filters).to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read as a responses shard ({error}); delete it and run again.") from error
    return rows


def _index_shard(path: Path) -> _Shard:
    rows = _read_columns(path, ("prompt_id", "category"))
    return _Shard(path, len(rows), {row["prompt_id"]: row["category"] or "" for row in rows})


def _sample_prompts(iteration: int, shards: Sequence[_Shard], count: int) -> Iterator[SampledPrompt]:
    categories = {prompt_id: category for shard in shards for prompt_id, category in shard.categories.items()}
    chosen = _spread(categories, count)
    for shard in shards:
        ids = [prompt_id for prompt_id in shard.categories if prompt_id in chosen]
        if not ids:
            continue
        prompts = {row["prompt_id"]: row for row in _read_columns(shard.path, _PROMPT_COLUMNS, ids)}
        responses = read_responses(shard.path)
        for prompt_id in ids:
            row = prompts[prompt_id]
            yield SampledPrompt(
                iteration=iteration,
                id=prompt_id,
                question=row["question"] or "",
                image_uris=tuple(row["images"] or ()),
                answer=row["answer"],
                category=row["category"] or "",
                responses=tuple(scored for scored in responses if scored.response.prompt_id == prompt_id),
            )


def _spread(categories: Mapping[str, str], count: int) -> set[str]:
    """Chooses ``count`` prompts: the categories in turn, and evenly over the prompts of each."""
    by_category: dict[str, list[str]] = {}
    for prompt_id, category in categories.items():
        by_category.setdefault(category, []).append(prompt_id)
    share = -(-count // max(1, len(by_category)))
    spread = [[ids[i * len(ids) // share] for i in range(share)][: len(ids)] for ids in by_category.values()]
    in_turn = dict.fromkeys(prompt_id for prompt_id in chain(*zip_longest(*spread)) if prompt_id is not None)
    # Small categories leave room, which any other prompt fills.
    return set(list({**in_turn, **dict.fromkeys(categories)})[:count])


def _read_configs(root: Path) -> Iterator[tuple[str, str]]:
    """The saved configs in the run and its log folders; of several versions of one log folder, the newest."""
    found = [path for depth in ("", "*/", "*/*/", "*/*/*/") for path in root.glob(f"{depth}config.yaml")]
    newest: dict[Path, Path] = {}
    for path in sorted(found, key=lambda path: path.stat().st_mtime):
        versioned = path.parent.name.startswith("version_")
        newest[path.parent.parent if versioned else path.parent] = path
    for path in sorted(newest.values()):
        yield str(path.relative_to(root)), path.read_text(encoding="utf-8", errors="replace")
