"""The report's sections of numbers over iterations: each becomes escaped HTML, or says what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mstar.dashboards.charts import Series, line_chart
from mstar.dashboards.markup import (
    Show,
    bar_cell,
    cell,
    escape,
    format_count,
    format_duration,
    grid,
    is_number,
    mapping,
    plain,
    short_percent,
    table,
    three_digits,
    two_decimals,
)
from mstar.dashboards.run_config import temperature_setting
from mstar.dashboards.run_data import IterationData, RunData
from mstar.dashboards.training import AUC_LINES
from mstar.dashboards.wording import format_percent, visible
from mstar.evaluation.reward_quality import warn_of_likelihood
from mstar.temperature import AdaptiveTemperature, FixedTemperature

__all__ = ["configs", "dynamics", "funnel", "groups", "judge", "mprm", "sweeps", "times"]

_FUNNEL: Final = ("generated", "parsed", "correct", "unique", "kept")
# Of prompts with a right response, those with more than the rule keeps; responses that are worst at the answer.
_CHOICE: Final = ("a choice for", "lowest score at the answer")
_JUDGE: Final[Mapping[str, tuple[str, Show]]] = {
    "asked": ("asked", format_count),
    "unreadable": ("unreadable", format_count),
    "decided by the rules, too": ("both", format_count),
    "agrees with them": ("agreement", format_percent),
    "tokens in": ("prompt_tokens", format_count),
    "tokens out": ("num_tokens", format_count),
    "cost": ("cost", two_decimals),
}
_STAGES: Final = ("generate", "grade", "score", "train")
_FIXED: Final = f"{FixedTemperature.__module__}.{FixedTemperature.__name__}"
_ADAPTIVE: Final = f"{AdaptiveTemperature.__module__}.{AdaptiveTemperature.__name__}"
_NO_ITERATIONS: Final = "This run has no iteration yet."


def dynamics(run: RunData) -> str:
    """Curves of the training dynamics over iterations."""
    depth = next((int(i.values["dynamics/k"]) for i in run.iterations if "dynamics/k" in i.values), None)
    k = "K" if depth is None else str(depth)
    reward = next(
        (key for i in run.iterations for key in i.values if key.startswith("dynamics/reward_pass_at_k")),
        "dynamics/reward_pass_at_k",
    )
    charts = [
        _curves(
            run,
            "Accuracy",
            {
                "greedy accuracy": "dynamics/greedy_accuracy",
                "greedy chain correctness": "dynamics/greedy_chain_accuracy",
                f"Pass@{k}": "dynamics/pass_at_k",
                "mean of samples": "dynamics/mean_accuracy",
            },
            note="On the validation prompts.",
        ),
        _curves(
            run,
            "Exploration",
            {f"Pass@{k} minus greedy": "dynamics/pass_at_k_gap", "Reward-Pass@2": reward},
            note="The gap is what sampling finds and greedy decoding does not; it closes as exploration ends.",
        ),
        _curves(run, "Sampling temperature", {"temperature": "temperature"}, show=plain),
        _curves(
            run,
            "What the policy learns from",
            {"chain correctness of kept responses": "kept_chain_accuracy"},
            note="Right from the first step to the last, where the data knows it.",
        ),
        _curves(
            run,
            "Pseudo answers of unlabelled prompts",
            {"right, where it is known": "pseudo_labels/accuracy"},
        ),
        _curves(
            run,
            "Prompts drawn ahead",
            {"prompts": "drawn_ahead/prompts"},
            show=plain,
            note="Their responses are by the weights that the iteration before drew with.",
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
    ]
    return grid(charts) or _missing(run, "No iteration has measured its dynamics.")


def funnel(run: RunData) -> str:
    """How many responses each filter let through, for every iteration."""
    if not run.iterations:
        return _missing(run, "")
    head = "".join(f"<th>{name}</th>" for name in ("prompts", "temp.", *_FUNNEL, "kept / prompt", *_CHOICE))
    return table(f"<th>iteration</th>{head}", [_funnel_row(iteration) for iteration in run.trained_iterations])


def judge(run: RunData) -> str:
    """What a judge by address was asked, how it agrees with the rules, and what that cost; nothing without one."""
    rows = []
    for values in (iteration.values for iteration in run.trained_iterations if "judge/asked" in iteration.values):
        cells = "".join(cell(values.get(f"judge/{name}"), show) for name, show in _JUDGE.values())
        rows.append(f'<tr><th scope="row">{plain(values["iteration"])}</th>{cells}</tr>')
    head = "".join(f"<th>{name}</th>" for name in _JUDGE)
    return f"<h3>The judge</h3>{table(f'<th>iteration</th>{head}', rows)}" if rows else ""


def groups(run: RunData) -> str:
    """What the last iteration made of easy and hard prompts, and of each category."""
    counted = (i for i in reversed(run.trained_iterations) if any(key.startswith("by_pass_rate/") for key in i.values))
    last = next(counted, None)
    if last is None:
        return ""
    parts = []
    for key, title in (("by_pass_rate", "share of right responses"), ("by_category", "category")):
        found = [name for name in last.values if name.startswith(f"{key}/")]
        names = dict.fromkeys(name.removeprefix(f"{key}/").rpartition("/")[0] for name in found)
        rows = [_group_row(name, last.values, f"{key}/{name}") for name in names]
        head = "".join(f"<th>{name}</th>" for name in ("prompts", "right", "kept", "kept / prompt"))
        parts.append(table(f"<th>{title}</th>{head}", rows) if rows else "")
    return f"<h3>Prompts of iteration {last.index}</h3>{''.join(parts)}"


def _group_row(name: str, values: Mapping[str, float], key: str) -> str:
    prompts, accuracy, kept = (values.get(f"{key}/{part}") for part in ("prompts", "accuracy", "kept"))
    share = kept / prompts if kept is not None and prompts else None
    cells = [cell(prompts, format_count), cell(accuracy, format_percent), cell(kept, format_count)]
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}{cell(share, two_decimals)}</tr>'


def sweeps(run: RunData) -> str:
    """Every temperature sweep as a chart, the chosen temperature marked."""
    charts = []
    for iteration in run.iterations:
        sweep = iteration.sweep
        if sweep is None:
            continue
        names = list(dict.fromkeys(name for _, metrics in sweep.scores for name in metrics))
        lines = [
            Series(visible(name), tuple((temperature, metrics.get(name)) for temperature, metrics in sweep.scores))
            for name in names
        ]
        kept = "" if sweep.top_k is None else f", and keeps {sweep.top_k} of a prompt at most"
        note = "" if sweep.chosen is None else f"It goes on at {sweep.chosen:g}{kept}."
        if sweep.spread is not None:
            spread, error = sweep.spread
            note += f" The best is {spread:.1%} above the worst (standard error {error:.1%})."
        title = f"Iteration {iteration.index}"
        charts.append(
            line_chart(title, lines, "temperature", short_percent, note=note, mark=sweep.chosen, whole_x=False)
        )
    return grid(charts) or _missing(run, _why_no_sweep(run))


def _why_no_sweep(run: RunData) -> str:
    """Says why, as far as the configuration is known; a class of the user's own has reasons of its own."""
    setting = temperature_setting(run.configs)
    if is_number(setting):
        return f"No temperature sweep was made: the temperature was fixed at {setting:g}."
    name, options = mapping(setting).get("class_path"), mapping(mapping(setting).get("init_args"))
    if name == _FIXED:
        return f"No temperature sweep was made: the temperature was fixed at {options.get('value', 1.0):g}."
    every = options.get("every", AdaptiveTemperature().every)
    if name != _ADAPTIVE or not isinstance(every, int):
        return "No temperature sweep was made."
    if max((i.index for i in run.iterations), default=0) <= every:
        return f"No temperature sweep was due yet: the first is before iteration {every + 1}."
    return "No temperature sweep was made: it needs validation prompts and an MPRM that is ready."


def mprm(run: RunData) -> str:
    """How well the process reward model ranks responses, beside the policy's own likelihood and voting."""
    charts = [
        _curves(
            run,
            "Ranking (AUC)",
            AUC_LINES,
            show=two_decimals,
            note="Trust the values within prompts: the pooled one also rewards knowing which prompts are hard.",
        ),
        _curves(
            run,
            "Choosing one answer of many",
            {
                "best of N by MPRM": "mprm/best_of_n",
                "majority vote": "mprm/majority",
                "MPRM-weighted vote": "mprm/weighted_vote",
            },
        ),
    ]
    return _warn(run) + grid(charts) or _missing(run, "No process reward model was measured in this run.")


def _warn(run: RunData) -> str:
    """That the MPRM is not worth its cost, or stale, by the last iteration that was measured."""
    last = next((i for i in reversed(run.iterations) if "mprm/likelihood_lead" in i.values), None)
    if last is None:
        return ""
    names = ("likelihood_lead", "likelihood_lead_error")
    warning = warn_of_likelihood({name: last.values.get(f"mprm/{name}") for name in names})
    return "" if warning is None else f'<p class="warning">After iteration {last.index} {escape(warning)}.</p>'


def times(run: RunData) -> str:
    """Where the time went: per stage of a staged run, and per iteration."""
    stages = {
        str(name): float(seconds)
        for name, seconds in mapping(run.summary.get("stage_seconds")).items()
        if is_number(seconds)
    }
    parts = []
    if stages:
        longest = max([*stages.values(), 1e-9])
        rows = [
            f'<tr><th scope="row">{escape(name)}</th>{bar_cell(format_duration(seconds), seconds / longest)}</tr>'
            for name, seconds in stages.items()
        ]
        drawn = table("<th>stage</th><th>time</th>", rows)
        parts.append(f'<div class="stages"><h3>Stages</h3>{drawn}</div>')
    seen = [s for s in _STAGES if any(f"seconds/{s}" in i.values for i in run.iterations)]
    if seen:
        rows = [_time_row(iteration, seen) for iteration in run.trained_iterations if iteration.complete]
        head = "".join(f"<th>{name}</th>" for name in (*seen, "sum", "tokens", "tokens / s"))
        parts.append("<h3>Iterations</h3>" + table(f"<th>iteration</th>{head}", rows))
    return "".join(parts) or _missing(run, "No times were recorded.")


def configs(run: RunData) -> str:
    """The saved configs, folded."""
    if not run.configs:
        return '<p class="missing">No config.yaml was found in the run or its log folders.</p>'
    fold = '<details><summary><code>{}</code></summary><pre tabindex="0">{}</pre></details>'
    return "".join(fold.format(escape(config.path), escape(config.text)) for config in run.configs)


def _funnel_row(iteration: IterationData) -> str:
    values = iteration.values
    name = f'<th scope="row">{iteration.index}'
    if not iteration.complete:
        return f'<tr>{name}</th><td class="remark" colspan="10">interrupted before its report was written</td></tr>'
    name += ' <span class="tag">skipped: nothing kept</span></th>' if iteration.skipped else "</th>"
    generated = values.get("funnel/generated", 0)
    cells = [cell(values.get("prompts"), format_count), cell(values.get("temperature"), plain)]
    for stage in _FUNNEL:
        count = values.get(f"funnel/{stage}")
        if count is None or not generated:
            cells.append(cell(count, format_count))
        else:
            cells.append(bar_cell(format_count(count), count / generated, format_percent(count / generated)))
    kept, prompts = values.get("funnel/kept"), values.get("prompts")
    cells.append(cell(kept / prompts if kept is not None and prompts else None, two_decimals))
    chosen, of = values.get("choice/prompts"), values.get("choice/of")
    cells.append(cell(chosen, lambda count: f"{format_count(count)} of {format_count(of or 0)}"))
    cells.append(cell(values.get("min_on_answer_step"), format_percent))
    return f"<tr>{name}{''.join(cells)}</tr>"


def _time_row(iteration: IterationData, stages: Sequence[str]) -> str:
    seconds = [iteration.values.get(f"seconds/{stage}") for stage in stages]
    total = sum(s for s in seconds if s is not None)
    cells = [
        cell(None, format_duration) if s is None else bar_cell(format_duration(s), s / total if total else 0)
        for s in seconds
    ]
    cells.append(cell(total, format_duration))
    cells.append(cell(iteration.values.get("tokens"), format_count))
    cells.append(cell(iteration.values.get("tokens_per_second"), format_count))
    return f'<tr><th scope="row">{iteration.index}</th>{"".join(cells)}</tr>'


def _curves(run: RunData, title: str, keys: Mapping[str, str], *, show: Show | None = None, note: str = "") -> str:
    lines = [
        Series(name, tuple((float(i.index), i.values.get(key)) for i in run.iterations))
        for name, key in keys.items()
        if any(key in i.values for i in run.iterations)
    ]
    return line_chart(title, lines, "iteration", show or short_percent, note=note) if lines else ""


def _missing(run: RunData, text: str) -> str:
    return f'<p class="missing">{escape(text if run.iterations else _NO_ITERATIONS)}</p>'
