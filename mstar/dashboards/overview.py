"""The report's first section: the main results of a run, and the test accuracies of a staged one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mstar.dashboards.charts import Chart, Series
from mstar.dashboards.run_data import RunData
from mstar.dashboards.tables import Row, Show, Table, cell, is_number, mapping
from mstar.dashboards.wording import (
    format_count,
    format_duration,
    format_percent,
    short_percent,
    three_digits,
    two_decimals,
)

_LAST: Final[dict[str, tuple[str, Show]]] = {
    "train/loss": ("training loss, last", three_digits),
    "val/loss": ("validation loss, last", three_digits),
    "val/accuracy": ("validation accuracy, last", format_percent),
    "mprm/auc_within": ("AUC within prompts, last", two_decimals),
    "test/accuracy": ("test accuracy, last", format_percent),
}


def headline(run: RunData) -> list[tuple[str, str]]:
    """The run's main results: what each is, and its value."""
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
    trained = run.trained_iterations
    known = [i for i in trained if "dynamics/greedy_accuracy" in i.values]
    if known and not is_number(summary.get("final_accuracy")):
        accuracy = known[-1].values["dynamics/greedy_accuracy"]
        cards.append((f"validation accuracy, iteration {known[-1].index}", format_percent(accuracy)))
    sampled_right = [i for i in trained if "right_samples" in i.values]
    if sampled_right and not known:
        share = sampled_right[-1].values["right_samples"]
        cards.append((f"right samples, iteration {sampled_right[-1].index}", format_percent(share)))
    cards.append(_progress(run))
    # Of early iterations the files may be gone (rollout.keep_iterations), of the last one the report may be missing.
    sampled = max(run.sample.num_responses, sum(i.values.get("funnel/generated", 0) for i in run.iterations))
    if sampled:
        cards.append(("responses sampled", format_count(sampled)))
    kept = sum(iteration.values.get("funnel/kept", 0) for iteration in run.iterations)
    if kept:
        cards.append(("responses kept", format_count(kept)))
    if run.stage_seconds:
        cards.append(("time", format_duration(sum(run.stage_seconds.values()))))
    if is_number(summary.get("seed")):
        cards.append(("seed", f"{summary['seed']:g}"))
    return cards


def _progress(run: RunData) -> tuple[str, str]:
    """Whether a run is finished, and how many iterations were trained, of how many."""
    done = sum(iteration.complete for iteration in run.trained_iterations)
    planned = run.finished.get("max_epochs", mapping(run.settings.get("trainer")).get("max_epochs"))
    said = f"{done} of {planned}" if is_number(planned) and planned > done else f"{done}"
    if not run.finished and (run.settings or done < len(run.trained_iterations)):
        return "iterations, not finished", said
    return "iterations" if said == f"{done}" else f"iterations, ended by {run.finished.get('limit')}", said


def _trained(run: RunData) -> Iterator[tuple[str, str]]:
    """What a fit without rollouts came to, by what was logged last."""
    for name in ("epochs", "steps"):
        if is_number(run.finished.get(name)):
            yield name, format_count(run.finished[name])
    # An annotation has no trainer, and does not say that it is done.
    if not run.finished and any("trainer" in config.values for config in run.configs):
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
        yield "steps labelled, without the last", format_count(sum(labels.num_steps for labels in run.labels))


def warnings(run: RunData) -> list[str]:
    """That the policy has collapsed, or is past its best, by the last iteration with a report."""
    last = next((i for i in reversed(run.trained_iterations) if i.report), None)
    if last is None:
        return []
    found = (last.report.get(name) for name in ("collapse", "fallen"))
    return [f"Iteration {last.index}: {said}." for said in found if said is not None]


def test_accuracies(summary: Mapping[str, Any]) -> tuple[Chart | None, Table] | None:
    """Accuracy and chain correctness after every stage of a staged run, drawn and as numbers; None if not known."""
    lines, columns = [], []
    for suffix, many, name in (
        ("accuracy", "iteration_accuracies", "accuracy"),
        ("chain_accuracy", "iteration_chain_accuracies", "chain correctness"),
    ):
        start, baseline = summary.get(f"warmup_{suffix}"), summary.get(f"seed_sft_{suffix}")
        evolved = [start, *summary.get(many, ())]
        points = tuple((float(number), float(value)) for number, value in enumerate(evolved) if is_number(value))
        if len(points) > 1:
            lines.append(Series(f"self-evolving, {name}", points))
        columns.append((evolved, baseline))
    if not any(is_number(value) for evolved, baseline in columns for value in (*evolved, baseline)):
        return None
    length = max(len(evolved) for evolved, _ in columns)
    names = ["warm-up", *(f"iteration {i}" for i in range(1, length)), "seed-only SFT, same steps"]
    padded = [[*evolved, *[None] * (length - len(evolved)), baseline] for evolved, baseline in columns]
    rows = [
        Row(name, [cell(value, format_percent) for value in values])
        for name, *values in zip(names, *padded, strict=True)
    ]
    note = "Greedy decoding, held-out questions. Chain correctness: right from the first step to the last."
    chart = Chart("Test accuracy", lines, "iteration", short_percent, note) if lines else None
    return chart, Table(("after", "accuracy", "chain correctness"), rows)
