"""The table of ``make small``: arms by seed, their paired differences, kinds of question, and how well rewards rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import pyarrow as pa

from mstar.atomic import write_text
from mstar.demo.verdicts import METRICS, Scores, as_json, differ, difference_cells, read_answers
from mstar.evaluation.markdown import markdown_table
from mstar.evaluation.reward_quality import RewardQuality, reward_quality
from mstar.prompts import charts, digits
from mstar.small.run import ARMS, WARMUP, require_one_experiment
from mstar.storage import RunDirectory, read_json, read_responses, write_json
from mstar.storage.tables import read_table
from mstar.types import ScoredResponse

_KINDS: Final = pa.schema([("prompt_id", pa.string()), ("category", pa.string())])
_ORDER: Final = (WARMUP, *ARMS)
_FIRST: Final = "mprm_top_1"
_PAIRS: Final = (
    (_FIRST, "random"), (_FIRST, "likelihood"), (_FIRST, "oracle"), ("oracle", "random"), (_FIRST, "seed_only"),
    (_FIRST, WARMUP), ("seed_only", WARMUP),
    ("mixed", _FIRST), ("mixed", "likelihood"), ("mixed", "random"), (_FIRST, "more_seed"), ("more_seed", "seed_only"),
)  # fmt: skip
# Of right answers alone there is nothing else to measure: each vote and choice among them is right.
_QUALITY: Final = (
    "auc_within_correct", "compared_correct", "likelihood_auc_within_correct", "likelihood_lead",
    "likelihood_lead_error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well responses with the right answer are ranked by the truth of their chains, within prompts.

    Attributes:
        right: Distinct right answers.
        right_chains: The share of them with right chains.
        quality: What is measured of them.
    """

    prompts: int
    right: int
    right_chains: float
    quality: RewardQuality


def measure_ranking(run: Path) -> Ranking | None:
    """The ranking of the first samples of an arm that an MPRM scored, drawn by its warm-up policy; None without any."""
    shards = RunDirectory(run).response_shards(1) if run.exists() else []
    rows = [row for shard in shards for row in read_responses(shard)]
    if not rows:
        return None
    groups: dict[str, list[ScoredResponse]] = {row.response.prompt_id: [] for row in rows}
    for row in rows:
        # Only what could be selected has a reward.
        if row.verdict.correct and row.process_reward is not None and row.chain_correct is not None:
            groups[row.response.prompt_id].append(row)
    distinct = {(name, row.response.text.strip()): bool(row.chain_correct) for name, g in groups.items() for row in g}
    quality = reward_quality([group for group in groups.values() if group])
    return Ranking(len(groups), len(distinct), sum(distinct.values()) / max(1, len(distinct)), quality)


def write_comparison(root: Path) -> str:
    """Writes ``table.md`` and ``table.json`` of all that is measured in a folder; returns what ``table.md`` says."""
    require_one_experiment(root)
    scores, kinds, cpu = _read(root)
    rankings = {
        seed: ranking
        for seed in sorted({seed for row in scores.values() for seed in row})
        if (ranking := measure_ranking(root / f"seed-{seed}" / _FIRST)) is not None
    }
    differences = [
        {"first": first, "second": second} | as_json(found)
        for first, second in _PAIRS
        if (found := differ(scores, first, second))["accuracy"] is not None
    ]
    parts = [_arm_table(scores, cpu), _difference_table(differences), _kind_table(scores, kinds), _ranking(rankings)]
    text = "\n\n".join("\n".join(part) for part in parts if part) + "\n"
    write_text(root / "table.md", text)
    means = {
        arm: {str(seed): {name: _mean(right) for name, right in found.items()} for seed, found in row.items()}
        for arm, row in scores.items()
    }
    ranked = {
        str(seed): {name: found for name, found in asdict(ranking).items() if name != "quality"}
        | {name: getattr(ranking.quality, name) for name in _QUALITY}
        for seed, ranking in rankings.items()
    }
    write_json(root / "table.json", {"arms": means, "differences": differences, "ranking": ranked})
    return text


def _read(root: Path) -> tuple[dict[str, Scores], dict[str, str], dict[str, list[float]]]:
    """Of every arm that is tested: its answers by seed; the kind of every question; every arm's CPU-seconds."""
    scores: dict[str, dict[int, Any]] = {arm: {} for arm in _ORDER}
    kinds: dict[str, str] = {}
    cpu: dict[str, list[float]] = {arm: [] for arm in _ORDER}
    for book in sorted(root.glob("seed-*/stages.json")):
        content = read_json(book)
        stages = content["stages"]
        for arm in (arm for arm in _ORDER if f"test {arm}" in stages):
            folder = book.parent / "test" / arm
            scores[arm][content["seed"]] = read_answers(folder)
            rows = read_table(folder / "predictions.parquet", _KINDS)
            kinds |= {row["prompt_id"]: row["category"] for row in rows}
            cpu[arm].append(stages[arm]["cpu_seconds"] + stages[f"test {arm}"]["cpu_seconds"])
    return {arm: row for arm, row in scores.items() if row}, kinds, cpu


def _mean(right: Mapping[str, bool]) -> float:
    return round(fmean(right.values()), 4)


def _arm_table(scores: Mapping[str, Scores], cpu: Mapping[str, Sequence[float]]) -> list[str]:
    """Accuracy / share of whole chains right, by seed; ``wrong`` is the share of right answers with wrong chains."""
    seeds = sorted({seed for row in scores.values() for seed in row})
    rows = []
    for arm, row in scores.items():
        cells = []
        for seed in seeds:
            if seed not in row:
                cells.append("")
                continue
            right, chain = (_mean(row[seed][metric]) for metric in METRICS)
            wrong = f"{100 * (right - chain) / right:.0f}" if right else "-"
            cells.append(f"{100 * right:.1f} / {100 * chain:.1f} ({wrong})")
        rows.append([arm, *cells, f"{fmean(cpu[arm]):.0f}"])
    return markdown_table(["arm", *(f"seed {seed}" for seed in seeds), "CPU-s"], rows)


def _difference_table(differences: Sequence[Mapping[str, Any]]) -> list[str]:
    if not differences:
        return []
    rows = [[f"{row['first']} less {row['second']}", *difference_cells(row)] for row in differences]
    return markdown_table(["points, 95 % interval", "accuracy", "whole chain", "seeds"], rows)


def _kind_table(scores: Mapping[str, Scores], kinds: Mapping[str, str]) -> list[str]:
    """Accuracy / whole chains by kind of question, over all seeds."""
    found = set(kinds.values())
    shown = next(task for task in (charts.KINDS, digits.KINDS) if found <= set(task))
    rows = []
    for arm, row in scores.items():
        cells = []
        for kind in shown:
            shares = [
                [right for answers in row.values() for name, right in answers[metric].items() if kinds[name] == kind]
                for metric in METRICS
            ]  # fmt: skip
            cells.append(" / ".join(f"{100 * fmean(share):.0f}" if share else "-" for share in shares))
        rows.append([arm, *cells])
    return markdown_table(["arm", *shown], rows)


def _ranking(rankings: Mapping[int, Ranking]) -> list[str]:
    if not rankings:
        return []
    rows = []
    for seed, found in rankings.items():
        quality = found.quality
        measured = (quality.auc_within_correct, quality.likelihood_auc_within_correct)
        aucs = ["-" if value is None else f"{value:.3f}" for value in measured]
        lead = "-"
        if quality.likelihood_lead is not None and quality.likelihood_lead_error is not None:
            lead = f"{-quality.likelihood_lead:+.3f} ± {1.96 * quality.likelihood_lead_error:.3f}"
        share, compared = f"{100 * found.right_chains:.1f}", str(quality.compared_correct)
        rows.append([str(seed), str(found.prompts), str(found.right), share, compared, *aucs, lead])
    return markdown_table(
        ["seed", "prompts", "right answers", "of them right chains (%)", "prompts with both", "AUC of the MPRM",
         "of the likelihood", "MPRM less likelihood"], rows,
    )  # fmt: skip
