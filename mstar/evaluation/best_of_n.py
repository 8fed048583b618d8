"""What a reward is good for on graded responses: best-of-N and votes beside random and oracle, by N."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mstar import metrics
from mstar.errors import counted
from mstar.evaluation.markdown import markdown_page, markdown_table, percent_between, points_between
from mstar.types import Response, ScoredResponse, Verdict, VerdictStatus

# How one of N responses is chosen; the last is the bound of what a choice could reach.
RULES: Final[dict[str, Callable[[metrics.Groups], float]]] = {
    "random": metrics.mean_accuracy,
    "majority": metrics.majority,
    "weighted vote": metrics.weighted_vote,
    "best of N": metrics.best_of_n,
    "oracle": metrics.pass_at_k,
}
# Differences of two rules on the same prompts: far surer than their own intervals make them look.
LEADS: Final = {
    "weighted vote - majority": ("weighted vote", "majority"),
    "best of N - majority": ("best of N", "majority"),
}
UNITS: Final = "Per cent, and differences in percentage points, with 95 % bootstrap intervals over prompts."
_COLUMNS: Final = ["prompt_id", "sample_index", "predicted", "correct", "status", "vote", "process_reward"]


@dataclass(frozen=True, slots=True)
class RuleScore:
    """The accuracy of a rule, or by how much one rule is better than another.

    Attributes:
        rule: One of ``RULES`` or of ``LEADS``.
        accuracy: Share of right choices within a prompt, averaged over the prompts; of a lead, the difference.
        low: Lower end of its 95 % bootstrap interval, over prompts.
    """

    n: int
    rule: str
    prompts: int
    accuracy: float
    low: float
    high: float

    def __str__(self) -> str:
        write = points_between if self.rule in LEADS else percent_between
        return write(self.accuracy, self.low, self.high)


@dataclass(frozen=True, slots=True)
class BestOfN:
    """What a reward is good for.

    Attributes:
        responses: Scored responses.
        graded: Those with a gold answer that can be graded; all else is about them.
        auc: AUC of the rewards over all of them; None where all or none are right.
    """

    responses: int
    graded: int
    auc: float | None
    auc_within: float | None
    scores: tuple[RuleScore, ...]

    @property
    def by_n(self) -> dict[int, list[RuleScore]]:
        """The rules' accuracies for each N, in the order of ``RULES`` and ``LEADS``."""
        return {n: list(scores) for n, scores in groupby(self.scores, key=lambda score: score.n)}

    @property
    def aucs(self) -> dict[str, float | None]:
        """Both AUCs by the names that they are shown by."""
        return {"AUC": self.auc, "AUC within prompts": self.auc_within}


def measure_best_of_n(shards: Sequence[Path], seed: int = 0, resamples: int = 1000) -> BestOfN:
    """Measures a reward on the files that ``score`` wrote; one prompt's responses are in memory at a time.

    For every N that is a power of 2, a prompt's samples are taken N at a time, in order and without rest; what a rule
    reaches on them is averaged within the prompt first.
    """
    responses = sum(pq.read_metadata(path).num_rows for path in shards)
    values: dict[int, dict[str, list[float]]] = {}
    rewards: list[float] = []
    right: list[bool] = []
    owners: list[int] = []
    for number, group in enumerate(_groups(shards)):
        rewards += [s.process_reward or 0.0 for s in group]
        right += [s.verdict.correct for s in group]
        owners += [number] * len(group)
        n = 1
        while n <= len(group):
            blocks = [group[start : start + n] for start in range(0, len(group) - n + 1, n)]
            for name, rule in RULES.items():
                values.setdefault(n, {}).setdefault(name, []).append(rule(blocks))
            n *= 2
    scores = []
    for n, row in sorted(values.items()):
        row |= {name: list(np.subtract(row[one], row[other])) for name, (one, other) in LEADS.items()}
        values_QM = np.array(list(row.values())).T
        bounds = zip(*metrics.bootstrap_interval([values_QM], seed, resamples), strict=True)
        scores += [RuleScore(n, name, len(values_QM), *map(float, b)) for name, b in zip(row, bounds, strict=True)]
    if not rewards:
        return BestOfN(responses, 0, None, None, ())
    within = metrics.within_group_auc(rewards, right, owners)
    return BestOfN(responses, len(rewards), metrics.auc(rewards, right), within, tuple(scores))


def _groups(shards: Sequence[Path]) -> Iterator[list[ScoredResponse]]:
    """The graded responses by prompt, without their texts; only these columns are ever held whole."""
    table = pa.concat_tables([pq.read_table(path, columns=_COLUMNS) for path in shards])
    table = table.sort_by([("prompt_id", "ascending"), ("sample_index", "ascending")])
    rows = (row for batch in table.to_batches(max_chunksize=1024) for row in batch.to_pylist())
    for _, group in groupby(rows, key=lambda row: row["prompt_id"]):
        graded = [_scored(row) for row in group if row["status"] != VerdictStatus.UNGRADEABLE_GOLD]
        if graded:
            yield graded


def _scored(row: dict[str, Any]) -> ScoredResponse:
    response = Response(row["prompt_id"], row["sample_index"], "", 0, True, 0.0, 0.0)
    verdict = Verdict(row["correct"], row["predicted"], VerdictStatus(row["status"]), row["vote"])
    # A response without a visible step has no reward that could be aggregated: the least.
    return ScoredResponse(response, verdict, process_reward=row["process_reward"] or 0.0)


def render_best_of_n(result: BestOfN, title: str) -> str:
    """The table as a Markdown page."""
    rows = [[str(n), str(scores[0].prompts), *map(str, scores)] for n, scores in result.by_n.items()]
    facts = [
        f"{counted(result.responses, 'response')} scored, of which {result.graded:,} with a gold answer that can be "
        "graded."
    ]
    if rows:
        facts += [f"{name}: {'-' if value is None else f'{value:.3f}'}." for name, value in result.aucs.items()]
        facts.append(UNITS)
    if len({scores[0].prompts for scores in result.by_n.values()}) > 1:
        facts.append(
            "Not all prompts have as many samples as the largest N: its rows are of fewer, and maybe harder or easier, "
            "prompts. Compare within a row."
        )
    tables = [markdown_table(["N", "prompts", *RULES, *LEADS], rows)] if rows else []
    return markdown_page(title, tables, facts)
