"""Scores of a benchmark: every metric for every group of questions, with bootstrap intervals.

A question is one row of the benchmark, or with circular evaluation all the rows that show its options in another order.

Shapes: Q questions, M metrics of all scoring modes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from mstar import metrics
from mstar.evaluation.votes import grade_voters
from mstar.grading import Grader
from mstar.prompts.benchmarks import BenchmarkItem
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus

OURS: Final = "ours"
_GREEDY: Final = "greedy"


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What a policy wrote for one row of a benchmark.

    Attributes:
        samples: Sampled responses; empty if none were drawn.
        others: For every further scoring mode, by its name, the verdicts on the greedy response and the samples.
    """

    prompt_id: str
    greedy: ScoredResponse
    samples: tuple[ScoredResponse, ...] = ()
    others: Mapping[str, tuple[Verdict, ...]] = field(default_factory=dict)

    def under(self, scoring: str) -> ItemResult:
        """The same with the verdicts of a further scoring mode, if it is one, in the place of its own."""
        if scoring not in self.others:
            return self
        first, *rest = self.others[scoring]
        samples = tuple(replace(s, verdict=verdict) for s, verdict in zip(self.samples, rest, strict=True))
        return replace(self, greedy=replace(self.greedy, verdict=first), samples=samples, others={})


@dataclass(frozen=True, slots=True)
class GroupScore:
    """One metric of one group of questions.

    Attributes:
        scoring: The scoring mode: ``ours`` or the name of another grader.
        dimension: What the questions are grouped by; ``all`` for all of them, ``mean of <dimension>`` for the mean of
            a dimension's groups, or the name of a figure of the benchmark's own.
        metric: ``greedy``, ``sampled``, ``pass@K``, ``majority@K``, ``best_of_K`` or ``weighted_vote@K``.
        score: The share of right ones, in [0, 1].
        low: Lower end of its 95 % bootstrap interval, over questions, those of one cluster together.
    """

    scoring: str
    dimension: str
    group: str
    metric: str
    questions: int
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """All that a benchmark's tables say.

    Attributes:
        statuses: For every scoring mode, the greedy responses by what came of their grading.
        truncated: Greedy responses that the length limit cut off.
    """

    name: str
    scores: tuple[GroupScore, ...]
    rows: int
    questions: int
    statuses: Mapping[str, Mapping[str, int]]
    truncated: int

    def value(self, metric: str, scoring: str = OURS) -> float:
        """The score of all questions."""
        found = (s.score for s in self.scores if (s.scoring, s.dimension, s.metric) == (scoring, "all", metric))
        return next(found)


def grade_items(
    prompts: Sequence[Prompt], drawn: Sequence[Sequence[Response]], graders: Mapping[str, Grader]
) -> list[ItemResult]:
    """Grades the responses to some rows.

    Args:
        drawn: For every row the greedy response, then the samples.
        graders: The grader of every scoring mode; the first one's verdicts become those of the responses.
    """
    (_, ours), *further = ((name, grade_voters(prompts, drawn, grader)) for name, grader in graders.items())
    items = []
    for number, (prompt, (greedy, *samples)) in enumerate(zip(prompts, ours, strict=True)):
        others = {name: tuple(scored.verdict for scored in graded[number]) for name, graded in further}
        items.append(ItemResult(prompt.id, greedy, tuple(samples), others))
    return items


def score_benchmark(
    name: str,
    items: Sequence[ItemResult],
    rows: Mapping[str, BenchmarkItem],
    *,
    scorings: Sequence[str] = (OURS,),
    averaged: str = "",
    figures: Callable[[Mapping[str, bool]], Mapping[str, Sequence[float]]] = lambda correct: {},
    seed: int = 0,
    resamples: int = 1000,
) -> BenchmarkResult:
    """Scores a benchmark.

    Rows with the same key are one question, which is right only if all of them are: for Pass@K, if each has a right
    answer among its samples; for a single sample, if the samples with the same number are all right.

    Args:
        rows: The benchmark's rows, by their prompts' ids.
        averaged: A dimension whose groups' mean is reported too; empty for none.
        figures: Makes the benchmark's own figures of what is right, by prompt id; see ``BenchmarkSource.figures``.
    """
    questions: dict[str, list[ItemResult]] = defaultdict(list)
    for item in items:
        questions[rows[item.prompt_id].question_key].append(item)
    firsts = [rows[first.prompt_id] for first, *_ in questions.values()]
    clusters = [first.cluster or first.question_key for first in firsts]
    measures = [(scoring, metric, measure) for scoring in scorings for metric, measure in _metrics(items).items()]
    views = {scoring: [[item.under(scoring) for item in same] for same in questions.values()] for scoring in scorings}
    values_QM = np.array([[measure(same) for same in views[scoring]] for scoring, _, measure in measures]).T
    interval_of = partial(metrics.bootstrap_interval, seed=seed, resamples=resamples)

    def interval_in(parts: Sequence[Sequence[int]]) -> tuple[metrics.Values, ...]:
        drawn = [[clusters[number] for number in part] for part in parts]
        return interval_of([values_QM[list(part)] for part in parts], clusters=drawn)

    groups: list[tuple[str, str, int, tuple[metrics.Values, ...]]] = []
    parts: list[list[int]] = []
    for (dimension, group), numbers in group_by_facet([first.facets for first in firsts]):
        groups.append((dimension, group, len(numbers), interval_in([numbers])))
        if averaged and dimension == averaged:
            parts.append(numbers)
    if parts:
        groups.insert(1, (f"mean of {averaged}", "", sum(map(len, parts)), interval_in(parts)))
    scores = [
        GroupScore(scoring, dimension, group, metric, count, *(float(bound[number]) for bound in interval))
        for number, (scoring, metric, _) in enumerate(measures)
        for dimension, group, count, interval in groups
    ]
    for scoring in scorings:
        correct = {item.prompt_id: item.under(scoring).greedy.verdict.correct for item in items}
        for figure, values in figures(correct).items():
            interval = interval_of([np.array(values)[:, None]])
            scores.append(
                GroupScore(scoring, figure, "", _GREEDY, len(values), *(float(bound[0]) for bound in interval))
            )
    return BenchmarkResult(
        name=name,
        scores=tuple(scores),
        rows=len(items),
        questions=len(questions),
        statuses={scoring: count_statuses(item.under(scoring) for item in items) for scoring in scorings},
        truncated=sum(not item.greedy.response.finished for item in items),
    )


def count_statuses(items: Iterable[ItemResult]) -> dict[str, int]:
    """The greedy responses by what came of their grading."""
    counts = Counter(item.greedy.verdict.status for item in items)
    return {status.value: counts[status] for status in VerdictStatus}


_Measure = Callable[[Sequence[ItemResult]], float]


def _metrics(items: Sequence[ItemResult]) -> dict[str, _Measure]:
    """The metrics that these responses allow; each maps the rows of one question to a value in [0, 1]."""
    found: dict[str, _Measure] = {_GREEDY: lambda rows: float(all(row.greedy.verdict.correct for row in rows))}
    k = min((len(item.samples) for item in items), default=0)
    if not k:
        return found

    def voted(vote: Callable[[Sequence[Sequence[ScoredResponse]]], float]) -> _Measure:
        return lambda rows: min(vote([row.samples]) for row in rows)

    found["sampled"] = _single_sample
    found[f"pass@{k}"] = voted(metrics.pass_at_k)
    found[f"majority@{k}"] = voted(metrics.majority)
    if all(sample.process_reward is not None for item in items for sample in item.samples):
        found[f"best_of_{k}"] = voted(metrics.best_of_n)
        found[f"weighted_vote@{k}"] = voted(metrics.weighted_vote)
    return found


def _single_sample(rows: Sequence[ItemResult]) -> float:
    correct = np.array([[sample.verdict.correct for sample in row.samples] for row in rows])
    return float(correct.all(axis=0).mean())


def group_by_facet(facets: Sequence[Sequence[tuple[str, str]]]) -> list[tuple[tuple[str, str], list[int]]]:
    """The numbers of questions by their groups: all, then by dimension as these occur, and within one by name."""
    members: dict[tuple[str, str], list[int]] = {("all", ""): list(range(len(facets)))}
    for number, own in enumerate(facets):
        for facet in dict.fromkeys(own):
            members.setdefault(facet, []).append(number)
    place = {dimension: number for number, dimension in enumerate(dict.fromkeys(name for name, _ in members))}
    return sorted(members.items(), key=lambda item: (place[item[0][0]], item[0][1]))
