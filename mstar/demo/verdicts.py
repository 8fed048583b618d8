"""Whether what a paper claims of two methods holds here: paired differences over the same questions and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from mstar.errors import DataError
from mstar.evaluation.markdown import markdown_table

Metric = Literal["accuracy", "chain_accuracy"]
# Of one arm: for every seed, whether each question was answered right; and the same by metric.
Answers = Mapping[int, Mapping[str, bool]]
Scores = Mapping[int, Mapping[Metric, Mapping[str, bool]]]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)

# Student's t at 97.5 %, by degrees of freedom; the first stands for none, where only the questions differ.
T: Final = (1.960, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a paper says of two arms.

    Attributes:
        first: The arm that is said to be better, or as good.
        metric: What the verdict goes by: accuracy, or the share of whole chains right.
        within: None: the first is better. Else the two are equal, which here means within so much of each other.
    """

    first: str
    second: str
    paper: str
    metric: Metric = "accuracy"
    within: float | None = None


_MSTAR: Final = "M-STaR, 2412.17451"
# In equality no paper names a margin; this is that which the contrast labels are to reach.
_CLOSE: Final = 0.03
_BASE: Final = "mprm_top_2_fixed"

CLAIMS: Final = (
    Claim(_BASE, "optimizer_reset", _MSTAR),
    Claim(_BASE, "random_2_duplicates", _MSTAR),
    Claim(_BASE, "mprm_top_1", _MSTAR),
    Claim(_BASE, "mprm_top_4", _MSTAR),
    Claim("adaptive_temperature", _BASE, _MSTAR),
    Claim("interval_25", "interval_100", _MSTAR),
    Claim("interval_25", "interval_50", _MSTAR),
    Claim("interval_25", "interval_12_5", _MSTAR),
    Claim("interval_25", "interval_6_25", _MSTAR),
    Claim("nft", "grpo", "NFT, 2505.18116", within=_CLOSE),
    Claim("reinforce_rej", "grpo", "Reinforce-Rej, 2504.11343", within=_CLOSE),
    Claim("rloop", _BASE, "after RLoop, 2511.04285"),
    Claim("balance", _BASE, "Matthew effect, 2510.26474"),
    Claim("balanced_temperature", _BASE, "B-STaR, 2412.17256"),
    Claim("mprm_threshold_rising", "mprm_threshold", "after FAPO, 2510.22543"),
    Claim("grpo_drop", "grpo", "PS-GRPO, 2501.04686"),
    Claim("grpo_decoupled", "grpo", "PAPO, 2603.26535"),
    Claim("grpo_consistency", "grpo", "PROF, 2509.03403"),
    Claim("unlabelled_abstaining", "unlabelled_voting", "after LLM-Self-Judge, 2603.21289"),
    Claim("unlabelled_soft", "unlabelled_voting", "after LLM-Self-Judge, 2603.21289"),
    # Ours, not a paper's: labels that don't come from the outcome.
    Claim("contrast_mprm", "refreshed_mprm", "contrast labels", "chain_accuracy"),
    Claim("contrast_mprm", "oracle_top_2", "contrast labels", "chain_accuracy", _CLOSE),
    Claim("contrast_mixed", "refreshed_mixed", "contrast labels", "chain_accuracy"),
    Claim("contrast_mixed", "oracle_top_2", "contrast labels", "chain_accuracy", _CLOSE),
    Claim("contrast_consistency", "oracle_top_2", "contrast labels", "chain_accuracy", _CLOSE),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean difference of two arms, with a 95 % interval.

    Attributes:
        mean: Of the first's score less the second's, over seeds and questions.
    """

    mean: float
    half: float
    by_seed: Mapping[int, float]

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half


Differences = Mapping[Metric, Difference | None]


def compare(first: Answers, second: Answers) -> Difference | None:
    """The difference of two arms on the seeds that both have, paired by seed and question; None if there are none.

    Seeds and questions are both drawn from many. The mean's variance is that of the seeds' means, plus what questions
    vary by beyond what the seeds show already (crossed random effects: each seed answers the same questions). The
    interval takes Student's t with one degree less than there are seeds. Since a few seeds may agree by chance, it is
    never narrower than that of the questions alone, which is all that there is with one seed.

    Raises:
        DataError: the arms answered different questions.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    questions = sorted(first[seeds[0]])
    if any(answers[seed].keys() != first[seeds[0]].keys() for answers in (first, second) for seed in seeds):
        raise DataError("two arms of the comparison answered different questions: run them again, on the same ones.")
    differences_SQ = np.array([[float(first[s][q]) - float(second[s][q]) for q in questions] for s in seeds])
    num_seeds, num_questions = differences_SQ.shape
    by_seed, by_question = differences_SQ.mean(1), differences_SQ.mean(0)
    of_questions = by_question.var(ddof=1) / num_questions
    half = T[0] * math.sqrt(of_questions)
    if num_seeds > 1:
        of_seeds = by_seed.var(ddof=1) / num_seeds
        rest_SQ = differences_SQ - by_seed[:, None] - by_question[None, :] + differences_SQ.mean()
        shown = (rest_SQ**2).sum() / ((num_seeds - 1) * (num_questions - 1)) / rest_SQ.size
        error = math.sqrt(of_seeds + max(of_questions - shown, 0.0))
        half = max(half, T[min(num_seeds, len(T)) - 1] * error)
    return Difference(float(by_seed.mean()), half, dict(zip(seeds, map(float, by_seed), strict=True)))


def judge(claim: Claim, difference: Difference | None) -> str:
    """What a difference says of a claim.

    Returns:
        ``holds`` if the whole interval agrees with the claim, ``fails`` if none of it does, ``open`` if the interval
        is too wide to say or there is one seed alone, ``not measured`` without a difference.
    """
    if difference is None:
        return "not measured"
    if len(difference.by_seed) < 2:
        return "open"
    low, high = (0.0, math.inf) if claim.within is None else (-claim.within, claim.within)
    if low < difference.low and difference.high < high:
        return "holds"
    return "fails" if difference.high < low or difference.low > high else "open"


def read_answers(folder: Path) -> dict[Metric, dict[str, bool]]:
    """Which test questions an arm answered right, by its answer and by its whole chain."""
    from mstar.storage import read_responses

    rows = read_responses(folder / "predictions.parquet")
    return {
        "accuracy": {row.response.prompt_id: row.verdict.correct for row in rows},
        "chain_accuracy": {row.response.prompt_id: bool(row.chain_correct) for row in rows},
    }


def verdicts(answers: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """The verdict on every claim, as JSON values, by the answers of every arm and seed."""
    rows: list[dict[str, Any]] = []
    for claim in CLAIMS:
        found = differ(answers, claim.first, claim.second)
        rows.append(
            {
                "first": claim.first,
                "second": claim.second,
                "relation": "better" if claim.within is None else "equal",
                "within": claim.within,
                "paper": claim.paper,
                "metric": claim.metric,
                "verdict": judge(claim, found[claim.metric]),
            }
            | as_json(found)
        )
    return rows


def differ(answers: Mapping[str, Scores], first: str, second: str) -> Differences:
    """The difference of two arms by metric, by the answers of every arm and seed."""
    return {
        metric: compare(*({seed: row[metric] for seed, row in answers.get(arm, {}).items()} for arm in (first, second)))
        for metric in METRICS
    }


def as_json(differences: Differences) -> dict[str, Any]:
    """The differences of two arms as JSON values."""
    return {metric: None if found is None else _as_dict(found) for metric, found in differences.items()}


def _as_dict(difference: Difference) -> dict[str, Any]:
    numbers = {"mean": difference.mean, "low": difference.low, "high": difference.high}
    return {name: round(value, 5) for name, value in numbers.items()} | {
        "by_seed": {str(seed): round(value, 5) for seed, value in difference.by_seed.items()}
    }


def verdict_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The verdicts as a Markdown table; differences in points, with 95 % intervals."""
    lines = []
    for row in rows:
        told = "better than" if row["within"] is None else f"within {100 * row['within']:.0f} points of"
        lines.append([f"{row['first']} {told} {row['second']}", row["paper"], row["verdict"], *difference_cells(row)])
    return "\n".join(markdown_table(["claim", "of", "verdict", "accuracy", "whole chain", "seeds"], lines)) + "\n"


def difference_cells(row: Mapping[str, Any]) -> list[str]:
    """The cells of a table for what ``as_json`` gave: points by metric with their intervals, and how many seeds."""
    return [*(_cell(row[metric]) for metric in METRICS), str(len((row["accuracy"] or {}).get("by_seed", ())))]


def _cell(difference: Mapping[str, float] | None) -> str:
    if difference is None:
        return ""
    half = (difference["high"] - difference["low"]) / 2
    return f"{100 * difference['mean']:+.1f} ± {100 * half:.1f}"
