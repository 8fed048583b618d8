"""The report's sections of what was logged by step, and of step labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mstar.dashboards.charts import Series, line_chart
from mstar.dashboards.markup import (
    Show,
    bar_cell,
    escape,
    format_count,
    grid,
    short_percent,
    table,
    three_digits,
    two_decimals,
)
from mstar.dashboards.run_data import RunData
from mstar.dashboards.step_labels import LabelSet
from mstar.dashboards.training_log import TrainingLog
from mstar.dashboards.wording import SCORE_LEVELS, format_percent

__all__ = ["AUC_LINES", "step_labels", "training"]

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
# Title, lines, how values are written; the last three are of validation.
_CHARTS: Final[tuple[tuple[str, dict[str, str], Show], ...]] = (
    ("Loss", _LOSS, three_digits),
    ("Learning rate", {"learning rate": "train/lr"}, three_digits),
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


def training(run: RunData) -> str:
    """Losses, learning rates and validation scores over optimizer steps, of every log folder."""
    return "".join(_log(log, several=len(run.logs) > 1) for log in run.logs)


def _log(log: TrainingLog, several: bool) -> str:
    charts, averaged = [], 1
    # A self-evolving fit logs its MPRM by iteration, which has a section of its own.
    for title, tags, show in _CHARTS[:2] if log.of_iterations else _CHARTS:
        lines = []
        for name, tag in tags.items():
            points = log.scalars.get(tag)
            if points:
                size = -(-len(points) // _POINTS)
                averaged = max(averaged, size)
                lines.append(Series(name, tuple(_means(points, size))))
        if lines:
            charts.append(line_chart(title, lines, "step", show, whole_x=False))
    if not charts:
        return ""
    heading = f"<h3>{escape(log.path)}</h3>" if several else ""
    note = f'<p class="lead">A point is the mean of {averaged} logged values, at most.</p>' if averaged > 1 else ""
    return heading + note + grid(charts)


def _means(points: Sequence[tuple[float, float]], size: int) -> Iterator[tuple[float, float]]:
    for start in range(0, len(points), size):
        part = points[start : start + size]
        yield sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)


def step_labels(run: RunData) -> str:
    """How the step labels of every folder are distributed, and the prompts to browse."""
    return "".join(_label_set(number, labels, len(run.labels) > 1) for number, labels in enumerate(run.labels))


def _label_set(number: int, labels: LabelSet, several: bool) -> str:
    heading = f"<h3>{escape(labels.path)}</h3>" if several else ""
    lines = [
        Series(name, points)
        for name, points in (("of right responses", labels.right), ("of wrong responses", labels.wrong))
        if points
    ]
    note = "The share of a step's continuations that reached the gold answer, by the step's place in its response."
    chart = line_chart("Mean step label", lines, "step", two_decimals, note=note) if lines else ""
    most, total = max(*labels.levels, 1), max(sum(labels.levels), 1)
    rows = [
        f'<tr><th scope="row">{level / SCORE_LEVELS:g} to {(level + 1) / SCORE_LEVELS:g}</th>'
        f"{bar_cell(format_count(count), count / most, format_percent(count / total))}</tr>"
        for level, count in enumerate(labels.levels)
    ]
    counts = (
        f"{format_count(labels.num_responses)} responses to {format_count(labels.num_prompts)} prompts, "
        f"{format_percent(labels.num_right / labels.num_responses)} of them right, with "
        f"{format_count(labels.num_steps)} steps. A response's last step is labelled by its own answer, and is left "
        "out of these figures." + (f" By a judge: {labels.judged.describe()}." if labels.judged is not None else "")
    )
    shown = (
        f'<p class="lead">{len(labels.prompts)} of {format_count(labels.num_prompts)} prompts, taken evenly over the '
        f'categories.</p><div class="browser" data-sample="labels-{number}"></div>'
    )
    distribution = table("<th>label</th><th>steps</th>", rows)
    return f'{heading}<p class="lead">{counts}</p><div class="beside">{chart}{distribution}</div>{shown}'
