"""What VisualProcessBench leaves in the run's folder: a Markdown table, the scores as JSON, every step as Parquet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pyarrow as pa

from mstar.atomic import write_text
from mstar.evaluation.benchmark_steps import StepScores
from mstar.evaluation.markdown import markdown_page, markdown_table, percent_between
from mstar.storage import write_json
from mstar.storage.tables import write_table

_ITEMS: Final = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("labels", pa.list_(pa.int8())),
        ("scores", pa.list_(pa.float64())),
        ("threshold", pa.float64()),
    ]
)


def render_steps(result: StepScores, notes: Sequence[str] = (), title: str = "VisualProcessBench") -> str:
    """The scores as a Markdown page."""
    rows = [
        [
            score.dimension if not score.group else f"{score.dimension}: {score.group}",
            str(score.responses),
            str(score.steps),
            percent_between(score.macro_f1, score.low, score.high),
            f"{100 * score.f1_right:.1f}",
            f"{100 * score.f1_wrong:.1f}",
            *(
                "-" if share is None else f"{100 * share:.1f}"
                for share in (score.first_wrong_accuracy, score.all_right_accuracy, score.first_wrong_f1)
            ),
        ]
        for score in result.scores
    ]
    head = [
        "group", "responses", "steps", "macro F1", "F1 right", "F1 wrong", "first wrong step", "none wrong",
        "F1 of the two",
    ]  # fmt: skip
    used = ", ".join(f"{value:.4f}" for value in sorted(set(result.thresholds)))
    how = "each chosen on the labels of the other half, split by question" if result.chosen else "given"
    if result.obstacle:
        how = f"the middle: {result.obstacle.rstrip('.')}"
    own = result.first_wrong_f1
    figure = f"{title}'s own figure, the mean F1 of the two over every {result.averaged}"
    facts = [
        f"A step counts as wrong below the threshold {used} ({how}).",
        "Percentages, with a 95 % bootstrap interval over responses for macro F1.",
        "First wrong step: share found, of the responses with one; none wrong: share left whole, of the others; F1 of "
        "the two: their harmonic mean, which is ProcessBench's F1.",
        *([f"{figure}: {100 * own:.1f}."] if result.averaged and own is not None else []),
        f"{result.neutral} neutral steps are not judged.",
        *notes,
    ]
    return markdown_page(title, [markdown_table(head, rows)], facts)


def write_step_scores(folder: Path, title: str, result: StepScores, notes: Sequence[str]) -> Path:
    """Writes a Markdown file, JSON and, with every response's scores, Parquet, all called by the benchmark.

    Returns:
        The path of the Markdown file.
    """
    stem = title.lower()
    summary = {
        "scores": [asdict(score) for score in result.scores],
        "thresholds": sorted({value for value in result.thresholds if math.isfinite(value)}),
        "thresholds_chosen_on_held_out_labels": result.chosen,
        "neutral_steps": result.neutral,
        "notes": list(notes),
    }
    write_json(folder / f"{stem}.json", summary)
    rows = [
        {"prompt_id": r.prompt_id, "labels": list(r.labels), "scores": list(r.scores), "threshold": t}
        for r, t in zip(result.items, result.thresholds, strict=True)
    ]
    write_table(folder / f"{stem}.parquet", rows, _ITEMS)
    path = folder / f"{stem}.md"
    write_text(path, render_steps(result, notes, title))
    return path
