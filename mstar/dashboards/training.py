"""The report's charts of what was logged by step, and of step labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mstar.dashboards.charts import Chart, Series
from mstar.dashboards.run_data import RunData
from mstar.dashboards.step_labels import LabelSet
from mstar.dashboards.tables import Cell, Row, Show, Table
from mstar.dashboards.training_log import TrainingLog
from mstar.dashboards.wording import (
    SCORE_LEVELS,
    format_count,
    format_percent,
    short_percent,
    three_digits,
    two_decimals,
)

AUC_LINES: Final = {
    "within prompts": "mprm/auc_within",
    "within prompts, right answers only": "mprm/auc_within_correct",
    "policy's likelihood, within prompts": "mprm/likelihood_auc_within",
    "policy's likelihood, right answers only": "mprm/likelihood_auc_within_correct",
    "pooled over prompts": "mprm/auc",
}
_LOSS: Final = {
    "training": "train/loss",
    "steps (cross-entropy)": "train/step_loss",
    "pairs": "train/pairwise_loss",
    "validation": "val/loss",
}
# Title, lines, how values are written.
_TRAINING: Final[tuple[tuple[str, dict[str, str], Show], ...]] = (
    ("Loss", _LOSS, three_digits),
    ("Learning rate", {"learning rate": "train/lr"}, three_digits),
    ("Divergence from the policy that drew the samples", {"nats a token": "train/kl"}, three_digits),
    ("Probability by that when drawn", {"mean ratio": "train/ratio"}, three_digits),
    ("Clipped tokens", {"share": "train/clipped_fraction"}, short_percent),
)
# A self-evolving fit has these by iteration, in sections of their own.
_VALIDATION: Final[tuple[tuple[str, dict[str, str], Show], ...]] = (
    (
        "Validation accuracy",
        {"greedy accuracy": "val/accuracy", "greedy chain correctness": "val/chain_accuracy"},
        short_percent,
    ),
    ("Ranking (AUC)", AUC_LINES, two_decimals),
    ("Steps", {"accuracy": "mprm/step_accuracy", "calibration error": "mprm/ece"}, two_decimals),
)
# Points of a line: of a longer log, as many means of equally many values are drawn.
_POINTS: Final = 120


@dataclass(frozen=True, slots=True)
class Logged:
    """What is shown of a log folder: a point of its charts is the mean of ``averaged`` logged values, at most."""

    path: str
    averaged: int
    charts: list[Chart]


def training(run: RunData) -> list[Logged]:
    """Losses, learning rates and validation scores over optimizer steps, of every log folder that has some."""
    return [logged for logged in map(_draw, run.logs) if logged.charts]


def _draw(log: TrainingLog) -> Logged:
    charts, averaged = [], 1
    for title, tags, show in _TRAINING if log.of_iterations else (*_TRAINING, *_VALIDATION):
        lines = []
        for name, tag in tags.items():
            points = log.scalars.get(tag)
            if points and not (tag == "train/lr" and len({rate for _, rate in points}) == 1):
                size = -(-len(points) // _POINTS)
                averaged = max(averaged, size)
                lines.append(Series(name, tuple(_means(points, size))))
        if lines:
            charts.append(Chart(title, lines, "step", show, whole_x=False))
    return Logged(log.path, averaged, charts)


def _means(points: Sequence[tuple[float, float]], size: int) -> Iterator[tuple[float, float]]:
    for start in range(0, len(points), size):
        part = points[start : start + size]
        yield sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)


def label_chart(labels: LabelSet) -> Chart | None:
    """The mean step label by the step's place; None if too few are known."""
    lines = [
        Series(name, points)
        for name, points in (("of right responses", labels.right), ("of wrong responses", labels.wrong))
        if points
    ]
    note = "The share of a step's continuations that reached the gold answer, by the step's place in its response."
    return Chart("Mean step label", lines, "step", two_decimals, note) if lines else None


def label_table(labels: LabelSet) -> Table:
    """How the step labels are distributed."""
    most, total = max(*labels.levels, 1), max(sum(labels.levels), 1)
    rows = [
        Row(
            f"{level / SCORE_LEVELS:g} to {(level + 1) / SCORE_LEVELS:g}",
            [Cell(format_count(count), count / most, format_percent(count / total))],
        )
        for level, count in enumerate(labels.levels)
    ]
    return Table(("label", "steps"), rows)
