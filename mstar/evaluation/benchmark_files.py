"""What a benchmark leaves in the run's folder: a Markdown table, the scores as JSON, and every response as Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from mstar import metrics
from mstar.atomic import write_text
from mstar.evaluation.benchmark import OURS, BenchmarkResult, GroupScore, ItemResult
from mstar.evaluation.markdown import markdown_page, markdown_table, percent_between
from mstar.prompts import PromptSource
from mstar.prompts.benchmarks import BenchmarkItem, BenchmarkSource
from mstar.storage import write_json
from mstar.storage.tables import asked, write_table

_ITEMS: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("question_key", pa.string()),
        ("facets", pa.list_(pa.struct([("dimension", pa.string()), ("value", pa.string())]))),
        ("question", pa.string()),
        ("images", pa.list_(pa.string())),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("response", pa.string()),
        ("finished", pa.bool_()),
        ("predicted", pa.string()),
        ("correct", pa.bool_()),
        ("status", pa.string()),
        ("official_predicted", pa.string()),
        ("official_correct", pa.bool_()),
        ("samples", pa.list_(pa.string())),
        ("sample_predicted", pa.list_(pa.string())),
        ("sample_correct", pa.list_(pa.bool_())),
        ("sample_official_correct", pa.list_(pa.bool_())),
        ("process_rewards", pa.list_(pa.float64())),
        ("step_scores", pa.list_(pa.list_(pa.float64()))),
        ("majority_answer", pa.string()),
        ("best_of_n_answer", pa.string()),
        ("weighted_vote_answer", pa.string()),
    ]
)


def write_items(path: Path, items: Sequence[ItemResult], rows: Mapping[str, BenchmarkItem]) -> None:
    """Writes every row with its responses and verdicts."""
    write_table(path, [_columns(item, rows[item.prompt_id]) for item in items], _ITEMS)


def _columns(item: ItemResult, row: BenchmarkItem) -> dict[str, Any]:
    greedy, samples = item.greedy, item.samples
    official = item.others.get("official", ())
    rated = bool(samples) and all(s.process_reward is not None for s in samples)
    return asked(row.prompt) | {
        "prompt_id": item.prompt_id,
        "choices": list(row.prompt.choices),
        "question_key": row.question_key,
        "facets": [{"dimension": dimension, "value": value} for dimension, value in row.facets],
        "response": greedy.response.text,
        "finished": greedy.response.finished,
        "predicted": greedy.verdict.predicted,
        "correct": greedy.verdict.correct,
        "status": greedy.verdict.status.value,
        "official_predicted": official[0].predicted if official else None,
        "official_correct": official[0].correct if official else None,
        "samples": [s.response.text for s in samples],
        "sample_predicted": [s.verdict.predicted for s in samples],
        "sample_correct": [s.verdict.correct for s in samples],
        "sample_official_correct": [verdict.correct for verdict in official[1:]],
        "process_rewards": [s.process_reward for s in samples] if rated else [],
        "step_scores": [list(s.step_scores) for s in samples] if rated else [],
        "majority_answer": metrics.majority_answer(samples),
        "best_of_n_answer": metrics.rank_by_process_reward(samples)[0].verdict.predicted if rated else None,
        "weighted_vote_answer": metrics.weighted_vote_answer(samples) if rated else None,
    }


def write_scores(folder: Path, stem: str, result: BenchmarkResult, notes: Sequence[str]) -> Path:
    """Writes ``<stem>.md`` and ``<stem>.json``.

    Returns:
        The path of the Markdown file.
    """
    write_json(folder / f"{stem}.json", asdict(result) | {"notes": list(notes)})
    path = folder / f"{stem}.md"
    write_text(path, render_scores(result, notes))
    return path


def render_scores(result: BenchmarkResult, notes: Sequence[str] = ()) -> str:
    """The scores as a Markdown page: a table for every scoring mode, a row a group, a column a metric."""
    scorings = list(dict.fromkeys(score.scoring for score in result.scores))
    blocks: list[list[str]] = []
    for scoring in scorings:
        scores = [score for score in result.scores if score.scoring == scoring]
        if len(scorings) > 1:
            blocks.append([f"## Scoring: {scoring}"])
        counts = ", ".join(f"{number} {name}" for name, number in result.statuses[scoring].items() if number)
        blocks += [_score_table(scores), [f"Greedy responses ({scoring}): {counts}."]]
    if len(scorings) > 1 and OURS in scorings:
        blocks.append(_differences(result))
    rows = f"{result.rows} rows"
    if result.rows != result.questions:
        rows = f"{result.questions} questions in {rows}; a question counts only if all its rows are right"
    facts = [
        f"{rows}.",
        "Scores are percentages with 95 % bootstrap intervals over questions, variants of one together.",
        f"{result.truncated} greedy responses were cut off by the length limit.",
        *notes,
    ]
    return markdown_page(result.name, blocks, facts)


def _score_table(scores: Sequence[GroupScore]) -> list[str]:
    columns = list(dict.fromkeys(score.metric for score in scores))
    cells: dict[tuple[str, str], dict[str, GroupScore]] = {}
    for score in scores:
        cells.setdefault((score.dimension, score.group), {})[score.metric] = score
    rows = [
        [
            dimension if not group else f"{dimension}: {group}",
            str(next(iter(found.values())).questions),
            # A figure of the benchmark's own is not known of every metric.
            *(percent_between(s.score, s.low, s.high) if (s := found.get(metric)) else "" for metric in columns),
        ]
        for (dimension, group), found in cells.items()
    ]
    return markdown_table(["group", "questions", *columns], rows)


def _differences(result: BenchmarkResult) -> list[str]:
    """What the other scoring modes make of the headline scores."""
    lines = []
    for score in result.scores:
        if score.dimension == "all" and score.scoring != OURS:
            ours = result.value(score.metric)
            lines.append(
                f"- {score.metric}: {100 * score.score:.1f} ({score.scoring}) against {100 * ours:.1f} (ours), "
                f"{100 * (score.score - ours):+.1f} points."
            )
    return lines


def benchmark_notes(source: PromptSource) -> list[str]:
    """What a reader of a benchmark's scores must know of it, its licence included."""
    if not isinstance(source, BenchmarkSource):
        return []
    return [*source.notes, *([f"Licence of {source.name}: {source.licence}."] if source.licence else [])]
