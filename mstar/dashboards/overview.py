"""The report's first section: the main results of a run, and the test accuracies of a staged one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mstar.dashboards.charts import Series, line_chart
from mstar.dashboards.markup import (
    Show,
    cell,
    escape,
    format_count,
    format_duration,
    is_number,
    known_points,
    mapping,
    sequence,
    short_percent,
    table,
    three_digits,
    two_decimals,
)
from mstar.dashboards.run_data import RunData
from mstar.dashboards.wording import format_percent

__all__ = ["overview"]

_LAST: Final[dict[str, tuple[str, Show]]] = {
    "train/loss": ("training loss, last", three_digits),
    "val/loss": ("validation loss, last", three_digits),
    "val/accuracy": ("validation accuracy, last", format_percent),
    "mprm/auc_within": ("AUC within prompts, last", two_decimals),
    "test/accuracy": ("test accuracy, last", format_percent),
}


def overview(run: RunData) -> str:
    """The run's main results as large numbers, and the accuracies of a staged run."""
    cards = [f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _headline(run)]
    notes = run.summary.get("notes")
    paragraphs = [f'<p class="note">{escape(note)}</p>' for note in (notes if isinstance(notes, list) else [])]
    return f'<dl class="cards">{"".join(cards)}</dl>{_test_accuracy(run.summary)}{"".join(paragraphs)}'


def _headline(run: RunData) -> list[tuple[str, str]]:
    summary = run.summary
    cards = []
    for key, name in (
        ("warmup_accuracy", "after warm-up"),
        ("final_accuracy", "final test accuracy"),
        ("final_chain_accuracy", "final chain correctness"),
        ("seed_sft_accuracy", "seed-only SFT"),
    ):
        if is_number(summary.get(key)):
            cards.append((name, format_percent(summary[key])))
    if is_number(summary.get("mprm_within_prompt_auc")):
        cards.append(("first MPRM, AUC within prompts", f"{summary['mprm_within_prompt_auc']:.3f}"))
    if not run.evolves:
        return [*cards, *_trained(run), *_labelled(run)]
    known = [i.values["dynamics/greedy_accuracy"] for i in run.iterations if "dynamics/greedy_accuracy" in i.values]
    if known and not is_number(summary.get("final_accuracy")):
        cards.append(("validation accuracy, last iteration", format_percent(known[-1])))
    trained = run.trained_iterations
    complete = sum(iteration.complete for iteration in trained)
    cards.append(
        (
            "iterations",
            f"{complete}" if complete == len(trained) else f"{complete} + {len(trained) - complete} unfinished",
        )
    )
    if run.sample.num_responses:
        cards.append(("responses sampled", format_count(run.sample.num_responses)))
    kept = sum(iteration.values.get("funnel/kept", 0) for iteration in run.iterations)
    if kept:
        cards.append(("responses kept", format_count(kept)))
    stages = [seconds for seconds in mapping(summary.get("stage_seconds")).values() if is_number(seconds)]
    if stages:
        cards.append(("time", format_duration(sum(stages))))
    if is_number(summary.get("seed")):
        cards.append(("seed", f"{summary['seed']:g}"))
    return cards


def _trained(run: RunData) -> Iterator[tuple[str, str]]:
    """What a fit without rollouts came to, by what was logged last."""
    for name in ("epochs", "steps"):
        if is_number(run.finished.get(name)):
            yield name, format_count(run.finished[name])
    if run.configs and not run.finished:
        yield "state", "not finished"
    for tag, (name, write) in _LAST.items():
        values = [value for log in run.logs if (value := log.last(tag)) is not None]
        if values:
            yield name, write(values[-1])


def _labelled(run: RunData) -> Iterator[tuple[str, str]]:
    if run.labels:
        responses = sum(labels.num_responses for labels in run.labels)
        yield "prompts with labels", format_count(sum(labels.num_prompts for labels in run.labels))
        yield "responses labelled", format_count(responses)
        yield "of them right", format_percent(sum(labels.num_right for labels in run.labels) / responses)
        yield "steps labelled", format_count(sum(labels.num_steps for labels in run.labels))


def _test_accuracy(summary: Mapping[str, Any]) -> str:
    """Accuracy and chain correctness after every stage of a staged run, as a chart and a table."""
    lines, columns = [], []
    for suffix, name in (("accuracy", "accuracy"), ("chain_accuracy", "chain correctness")):
        many = "iteration_accuracies" if suffix == "accuracy" else "iteration_chain_accuracies"
        seeds = "seed_sft_accuracies" if suffix == "accuracy" else "seed_sft_chain_accuracies"
        start = summary.get(f"warmup_{suffix}")
        evolved = [start, *sequence(summary.get(many))]
        baseline = [start, *sequence(summary.get(seeds))]
        last = summary.get(f"seed_sft_{suffix}")
        points = known_points(enumerate(evolved))
        flat = known_points(enumerate(baseline) if len(baseline) > 1 else [(0, start), (len(evolved) - 1, last)])
        if len(points) > 1:
            lines.append(Series(f"self-evolving, {name}", points))
        if len(flat) > 1 and len(evolved) > 1:
            lines.append(Series(f"seed-only SFT, {name}", flat))
        columns.append([*evolved, summary.get(f"final_{suffix}"), last])
    if not any(is_number(value) for column in columns for value in column):
        return ""
    length = max(len(column) for column in columns)
    names = ["warm-up", *(f"iteration {i}" for i in range(1, length - 2)), "final", "seed-only SFT, same steps"]
    # The shorter column lacks iterations, not its last two entries.
    padded = [[*column[:-2], *[None] * (length - len(column)), *column[-2:]] for column in columns]
    rows = [
        f'<tr><th scope="row">{names[row]}</th>{"".join(cell(column[row], format_percent) for column in padded)}</tr>'
        for row in range(length)
    ]
    numbers = table("<th>after</th><th>accuracy</th><th>chain correctness</th>", rows)
    note = "Greedy decoding, held-out questions. Chain correctness: right from the first step to the last."
    chart = line_chart("Test accuracy", lines, "iteration", short_percent, note=note) if lines else ""
    return f'<div class="beside">{chart}{numbers}</div>'
