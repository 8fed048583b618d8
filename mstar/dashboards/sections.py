"""The report's charts and tables of numbers over iterations; what is missing is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mstar.dashboards.charts import Chart, Series
from mstar.dashboards.run_data import IterationData, RunData
from mstar.dashboards.tables import Cell, Row, Show, Table, cell, mapping
from mstar.dashboards.training import AUC_LINES
from mstar.dashboards.wording import (
    format_count,
    format_duration,
    format_percent,
    plain,
    short_percent,
    three_digits,
    two_decimals,
)
from mstar.evaluation.reward_quality import warn_of_likelihood

_FUNNEL: Final = ("generated", "parsed", "correct", "unique", "kept")
# Of prompts with a right response, those with more than the rule keeps; responses that are worst at the answer.
_CHOICE: Final = ("a choice for", "lowest score at the answer")
# Prompts that could not be shown to the policy; comparisons of formulas that ran out of computing time.
_LOST: Final[Mapping[str, str]] = {"prompts put aside": "put_aside", "grading timed out": "grading_timeouts"}
_JUDGE: Final[Mapping[str, tuple[str, Show]]] = {
    "asked": ("asked", format_count),
    "unreadable": ("unreadable", format_count),
    "words that the rules take for wrong": ("words", format_count),
    "right of these": ("words_right", format_count),
    "others decided by the rules, too": ("both", format_count),
    "agrees with them": ("agreement", format_percent),
    "tokens in": ("prompt_tokens", format_count),
    "tokens out": ("num_tokens", format_count),
    "cost": ("cost", two_decimals),
}
_STAGES: Final = ("refresh", "sweep", "generate", "grade", "score", "train", "dynamics")


def dynamics(run: RunData) -> list[Chart]:
    """Curves of the training dynamics over iterations."""
    depth, prompts = _last(run, "dynamics/k"), _last(run, "dynamics/prompts")
    k = "K" if depth is None else f"{depth:g}"
    return _drawn(
        _curves(
            run,
            "Accuracy",
            {
                "greedy accuracy": "dynamics/greedy_accuracy",
                "greedy chain correctness": "dynamics/greedy_chain_accuracy",
                f"Pass@{k}": "dynamics/pass_at_k",
                "mean of samples": "dynamics/mean_accuracy",
            },
            note=f"On {'the' if prompts is None else format_count(prompts)} validation prompts.",
        ),
        _curves(
            run,
            "Right samples",
            {"share of the responses": "right_samples"},
            note="Of an iteration's own prompts, which it trains on next"
            + ("; without those that were voted on." if votes(run) else "."),
        ),
        _curves(
            run,
            "Exploration",
            {f"Pass@{k} minus greedy": "dynamics/pass_at_k_gap", "Reward-Pass@2": "dynamics/reward_pass_at_k"},
            note="The gap is what sampling finds and greedy decoding does not; it closes as exploration ends.",
        ),
        _curves(
            run,
            "What the policy learns from",
            {
                "chain correctness of kept responses": "kept_chain_accuracy",
                "of as many of what could be kept, at random": "random_chain_accuracy",
            },
            note="Right from the first step to the last, where the data knows it."
            + ("" if _last(run, "random_chain_accuracy") is None else " The rule adds the difference."),
        ),
        _curves(
            run,
            "Pseudo answers of unlabelled prompts",
            {"right, where it is known": "pseudo_labels/accuracy"},
        ),
        _curves(run, "Cut off at the length limit", {"share of responses": "truncated_fraction"}),
        _curves(
            run,
            "Prompts without a comparison",
            {"all samples right": "all_right_fraction", "none right": "all_wrong_fraction"},
            note="What learns from a prompt's samples beside each other learns nothing of these.",
        ),
        _curves(run, "Entropy of the samples", {"nats a token": "entropy"}, show=two_decimals),
        _curves(run, "Length of the samples", {"tokens": "response_length"}, show=three_digits),
        _curves(
            run,
            "Engine and trainer apart",
            {"nats a token": "engine_drift"},
            show=three_digits,
            note="The largest mean difference of log-probabilities at any of an iteration's hand-overs.",
        ),
    )


def funnel(run: RunData) -> Table:
    """How many responses each filter let through, for every iteration."""
    lost = [name for name, key in _LOST.items() if any(i.values.get(key) for i in run.trained_iterations)]
    head = ("iteration", "prompts", "temp.", *_FUNNEL, "kept / prompt", *_CHOICE, *lost)
    return Table(head, [_funnel_row(iteration, lost) for iteration in run.trained_iterations])


def votes(run: RunData) -> str:
    """What a vote among the responses makes of the funnel's last numbers; nothing without one."""
    last = next((i for i in reversed(run.trained_iterations) if i.report.get("pseudo_labels")), None)
    if last is None:
        return ""
    counts = (last.values[name] for name in ("pseudo_labels/voted", "prompts", "pseudo_labels/abstained"))
    voted, prompts, abstained = map(format_count, counts)
    share = last.values.get("right_samples")
    others = "" if share is None else f" Of the responses to the others, {format_percent(share)} are right."
    return (
        f"In iteration {last.index}, {voted} of {prompts} prompts were voted on, and {abstained} got no answer. "
        f"There, correct, right and all right say how far the policy agrees with itself.{others}"
    )


def judge(run: RunData) -> Table:
    """What a judge by address was asked, how it agrees with the rules, and what that cost."""
    asked = [iteration for iteration in run.trained_iterations if "judge/asked" in iteration.values]
    return Table(
        ("iteration", *_JUDGE),
        [Row(i.index, [cell(i.values.get(f"judge/{name}"), show) for name, show in _JUDGE.values()]) for i in asked],
    )


def groups(run: RunData) -> tuple[int, list[Table]] | None:
    """What the last iteration made of easy and hard prompts, and of each category; None if that is not known."""
    last = next((i for i in reversed(run.trained_iterations) if i.report.get("by_pass_rate")), None)
    if last is None:
        return None
    tables = []
    for key, title in (("by_pass_rate", "share of right responses"), ("by_category", "category")):
        rows = [_group_row(name, tally) for name, tally in mapping(last.report.get(key)).items()]
        tables.append(Table((title, "prompts", "right", "kept", "kept / prompt"), rows))
    return last.index, [table for table in tables if table.rows]


def _group_row(name: str, tally: Mapping[str, float]) -> Row:
    prompts, accuracy, kept = (tally[part] for part in ("prompts", "accuracy", "kept"))
    share = kept / prompts if prompts else None
    cells = [cell(prompts, format_count), cell(accuracy, format_percent), cell(kept, format_count)]
    return Row(name, [*cells, cell(share, two_decimals)])


def sweeps(run: RunData) -> Table:
    """What every temperature sweep decided by, for each temperature, the chosen one bold."""
    found = [(i.index, i.report["sweep"]) for i in run.iterations if i.report.get("sweep")]
    temperatures = sorted({float(t) for _, sweep in found for t in sweep["scores"]})
    rows = []
    for index, sweep in found:
        scores = {float(t): row.get(sweep["metric"]) for t, row in sweep["scores"].items()}
        cells = [cell(scores.get(t), format_percent, strong=t == sweep["chosen"]) for t in temperatures]
        lead, error = sweep.get("lead"), sweep.get("standard_error")
        told = Cell(None if lead is None else _points(lead, error))
        rows.append(Row(index, [Cell(sweep["metric"]), *cells, told]))
    return Table(("iteration", "by", *(f"T = {t:g}" for t in temperatures), "lead, in points"), rows)


def _points(lead: float, error: float | None) -> str:
    return f"{100 * lead:+.1f}" + (f" ± {100 * error:.1f}" if error else "")


def mprm(run: RunData) -> list[Chart]:
    """How well the process reward model ranks responses, beside the policy's own likelihood and voting."""
    note = "Trust the values within prompts: the pooled one also rewards knowing which prompts are hard."
    compared, right = _last(run, "mprm/compared"), _last(run, "mprm/compared_correct")
    if compared is not None:
        # None where chains are not known, so that no right answer is bad.
        of_right = f", and {format_count(right)} with both among their right answers" if right else ""
        note += (
            f" Those are means over the prompts with good and bad responses: last {format_count(compared)}{of_right}."
        )
    return _drawn(
        _curves(run, "Ranking (AUC)", AUC_LINES, show=two_decimals, note=note),
        _curves(
            run,
            "Choosing one answer of many",
            {
                "best of N by MPRM": "mprm/best_of_n",
                "majority vote": "mprm/majority",
                "MPRM-weighted vote": "mprm/weighted_vote",
            },
        ),
    )


def likelihood_warning(run: RunData) -> str:
    """That the MPRM is not worth its cost, or stale, by the last iteration that was measured; nothing if it is."""
    last = next((i for i in reversed(run.iterations) if "mprm/likelihood_lead" in i.values), None)
    if last is None:
        return ""
    refreshes = mapping(run.settings.get("rollout")).get("refresh_reward_model") is not None
    warning = warn_of_likelihood(last.report["mprm"], refreshes=refreshes)
    return "" if warning is None else f"After iteration {last.index} {warning}."


def stage_times(run: RunData) -> Table:
    """Where the time of a staged run went."""
    longest = max([*run.stage_seconds.values(), 1e-9])
    rows = [
        Row(name, [Cell(format_duration(seconds), seconds / longest)]) for name, seconds in run.stage_seconds.items()
    ]
    return Table(("stage", "time"), rows)


def iteration_times(run: RunData) -> Table:
    """Where the time of every iteration went."""
    seen = [s for s in _STAGES if any(f"seconds/{s}" in i.values for i in run.iterations)]
    rows = [_time_row(iteration, seen) for iteration in run.iterations if "seconds" in iteration.report]
    return Table(("iteration", *seen, "sum", "tokens", "tokens / s"), rows)


def _funnel_row(iteration: IterationData, lost: Sequence[str]) -> Row:
    values = iteration.values
    if not iteration.report:
        return Row(iteration.index, remark="not finished: no report yet")
    generated = values.get("funnel/generated", 0)
    cells = [cell(values.get("prompts"), format_count), cell(values.get("temperature"), plain)]
    for stage in _FUNNEL:
        count = values.get(f"funnel/{stage}")
        if count is None or not generated:
            cells.append(cell(count, format_count))
        else:
            cells.append(Cell(format_count(count), count / generated, format_percent(count / generated)))
    kept, prompts = values.get("funnel/kept"), values.get("prompts")
    cells.append(cell(kept / prompts if kept is not None and prompts else None, two_decimals))
    chosen, of = values.get("choice/prompts"), values.get("choice/of")
    cells.append(cell(chosen, lambda count: f"{format_count(count)} of {format_count(of or 0)}"))
    cells.append(cell(values.get("min_on_answer_step"), format_percent))
    cells += [cell(values.get(_LOST[name]), format_count) for name in lost]
    tags = {"new MPRM": "refreshed" in iteration.report}
    tags |= {"skipped: nothing kept": iteration.skipped, "training not finished": not iteration.complete}
    return Row(iteration.index, cells, ", ".join(tag for tag, fits in tags.items() if fits))


def _time_row(iteration: IterationData, stages: Sequence[str]) -> Row:
    seconds = [iteration.values.get(f"seconds/{stage}") for stage in stages]
    total = sum(s for s in seconds if s is not None)
    cells = [Cell(None) if s is None else Cell(format_duration(s), s / total if total else 0) for s in seconds]
    cells.append(cell(total, format_duration))
    cells.append(cell(iteration.values.get("tokens"), format_count))
    cells.append(cell(iteration.values.get("tokens_per_second"), format_count))
    return Row(iteration.index, cells)


def _curves(
    run: RunData, title: str, keys: Mapping[str, str], *, show: Show = short_percent, note: str = ""
) -> Chart | None:
    lines = [
        Series(name, tuple((float(i.index), i.values.get(key)) for i in run.iterations))
        for name, key in keys.items()
        if any(key in i.values for i in run.iterations)
    ]
    return Chart(title, lines, "iteration", show, note) if lines else None


def _last(run: RunData, key: str) -> float | None:
    return next((i.values[key] for i in reversed(run.iterations) if key in i.values), None)


def _drawn(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]
