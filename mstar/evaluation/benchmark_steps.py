"""How well an MPRM agrees with human labels on steps (VisualProcessBench's measure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mstar.errors import DataError
from mstar.evaluation.benchmark import group_by_facet
from mstar.generation import derive_seed
from mstar.prompts.benchmarks import BenchmarkItem

_MIDDLE: Final = 0.5
_RIGHT: Final = 1
_WRONG: Final = -1
# Rows of a confusion matrix: right steps called right, right called wrong, wrong called wrong, wrong called right.
_Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepResult:
    """One response with its labels and scores.

    Attributes:
        labels: For every step 1 (right), -1 (wrong) or 0 (neutral, not judged).
        scores: For every step the MPRM's probability that it is right.
    """

    prompt_id: str
    labels: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StepScore:
    """The agreement on one group of responses.

    Attributes:
        dimension: What the responses are grouped by; ``all`` for all of them.
        steps: How many labelled steps they have, without the neutral ones.
        low: Lower end of the 95 % bootstrap interval of ``macro_f1``, over responses.
        first_wrong_accuracy: Of the responses with a wrong step, the share whose first one is the first that the MPRM
            calls wrong; None without any such response.
        all_right_accuracy: Of the responses without a wrong step, the share in which the MPRM finds none; None without
            any such response.
    """

    dimension: str
    group: str
    responses: int
    steps: int
    f1_right: float
    f1_wrong: float
    macro_f1: float
    low: float
    high: float
    first_wrong_accuracy: float | None
    all_right_accuracy: float | None

    @property
    def first_wrong_f1(self) -> float | None:
        """ProcessBench's F1: the harmonic mean of the two accuracies; None without one of them."""
        wrong, right = self.first_wrong_accuracy, self.all_right_accuracy
        if wrong is None or right is None:
            return None
        return 2 * wrong * right / (wrong + right) if wrong + right else 0.0


@dataclass(frozen=True, slots=True)
class StepScores:
    """The agreement of all groups.

    Attributes:
        thresholds: For every response in order, the threshold that it was judged with.
        chosen: Whether the threshold of each half of the labels was chosen on the other one.
        obstacle: Why they could not be chosen, though they should; then they are 0.5.
        neutral: How many steps were left out as neutral.
        averaged: The dimension whose groups' F1 the benchmark averages; empty for none.
    """

    scores: tuple[StepScore, ...]
    thresholds: tuple[float, ...]
    chosen: bool
    items: tuple[StepResult, ...]
    neutral: int
    obstacle: str = ""
    averaged: str = ""

    @property
    def first_wrong_f1(self) -> float | None:
        """That of all responses, or the mean of the groups' that are averaged; None where one of them has none."""
        parts = [score for score in self.scores if score.dimension == self.averaged] or self.scores[:1]
        known = [part.first_wrong_f1 for part in parts if part.first_wrong_f1 is not None]
        return sum(known) / len(known) if len(known) == len(parts) else None


def macro_f1(counts: npt.ArrayLike) -> tuple[float, float, float]:
    """F1 of right steps, of wrong steps, and their mean; an F1 without any step to find or found is 0.

    Args:
        counts: Right steps called right, right called wrong, wrong called wrong, wrong called right.
    """
    right, missed, wrong, passed = (float(value) for value in np.asarray(counts, dtype=np.float64))
    f1_right = 2 * right / (2 * right + missed + passed) if right else 0.0
    f1_wrong = 2 * wrong / (2 * wrong + missed + passed) if wrong else 0.0
    return f1_right, f1_wrong, (f1_right + f1_wrong) / 2


def best_threshold(results: Sequence[StepResult]) -> float:
    """The threshold below which a step counts as wrong that gives the highest macro F1; of equals the lowest.

    Raises:
        DataError: the results lack right or wrong steps, so that there is nothing to choose by.
    """
    pairs = [(s, y) for r in results for s, y in zip(r.scores, r.labels, strict=True) if y != 0]
    ordered = np.array(sorted(pairs), dtype=np.float64).reshape(-1, 2)
    values, right = ordered[:, 0], ordered[:, 1] == _RIGHT
    if right.all() or not right.any():
        raise DataError("a threshold cannot be chosen by labels that are all right or all wrong; set model.threshold.")
    # Cutting before position i calls the first i steps wrong; equal scores cannot be cut apart.
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()]
    missed, wrong = np.concatenate([[0], np.cumsum(right)]), np.concatenate([[0], np.cumsum(~right)])
    quality = [macro_f1([right.sum() - missed[i], missed[i], wrong[i], (~right).sum() - wrong[i]])[2] for i in cuts]
    best = cuts[int(np.argmax(quality))]
    return 0.0 if best == 0 else float((values[best - 1] + values[best]) / 2)


def score_steps(
    results: Sequence[StepResult],
    rows: Mapping[str, BenchmarkItem],
    *,
    threshold: float | None = None,
    averaged: str = "",
    seed: int = 0,
    resamples: int = 1000,
) -> StepScores:
    """Measures the agreement.

    Args:
        rows: The benchmark's rows, by their prompts' ids; the labels are split by their questions' keys.
        threshold: The threshold of all responses; None chooses that of each half on the other one.
        averaged: The dimension whose groups' F1 the benchmark averages; empty for none.
    """
    obstacle = ""
    if threshold is None:
        try:
            thresholds = _choose(results, [rows[r.prompt_id].question_key for r in results], seed)
        except DataError as error:
            # Too few labels: what has been scored is not thrown away for it, but the table says so.
            thresholds, obstacle = (_MIDDLE,) * len(results), str(error)
    else:
        thresholds = (threshold,) * len(results)
    counts_RC = np.array([_count(r, t) for r, t in zip(results, thresholds, strict=True)]).reshape(-1, 4)
    first = [_find_first(r, t) for r, t in zip(results, thresholds, strict=True)]
    scores = []
    for (dimension, group), numbers in group_by_facet([rows[result.prompt_id].facets for result in results]):
        f1_right, f1_wrong, macro = macro_f1(counts_RC[numbers].sum(axis=0))
        low, high = _interval(counts_RC[numbers], seed, resamples)
        having = [first[n] for n in numbers if _WRONG in results[n].labels]
        clean = [first[n] for n in numbers if _WRONG not in results[n].labels]
        scores.append(
            StepScore(
                dimension, group, len(numbers), int(counts_RC[numbers].sum()), f1_right, f1_wrong, macro, low, high,
                _share(having), _share(clean),
            )
        )  # fmt: skip
    neutral = sum(result.labels.count(0) for result in results)
    chosen = threshold is None and not obstacle
    return StepScores(tuple(scores), thresholds, chosen, tuple(results), neutral, obstacle, averaged)


def _choose(results: Sequence[StepResult], keys: Sequence[str], seed: int) -> tuple[float, ...]:
    """For every response the threshold that is best on the half of the questions that its own is not in."""
    distinct = sorted(set(keys), key=lambda key: (derive_seed(seed, "fold", key), key))
    half = {key: number % 2 for number, key in enumerate(distinct)}
    best = [best_threshold([r for r, key in zip(results, keys, strict=True) if half[key] != own]) for own in (0, 1)]
    return tuple(best[half[key]] for key in keys)


def _count(result: StepResult, threshold: float) -> list[int]:
    called = Counter((label, s >= threshold) for s, label in zip(result.scores, result.labels, strict=True))
    return [called[_RIGHT, True], called[_RIGHT, False], called[_WRONG, False], called[_WRONG, True]]


def _find_first(result: StepResult, threshold: float) -> bool:
    """Whether the first step that is called wrong is the first wrong one (or neither exists), without neutral steps."""
    judged = [(s, y) for s, y in zip(result.scores, result.labels, strict=True) if y != 0]
    true = next((i for i, (_, label) in enumerate(judged) if label == _WRONG), None)
    return true == next((i for i, (score, _) in enumerate(judged) if not score >= threshold), None)


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _interval(counts_RC: _Counts, seed: int, resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    size = len(counts_RC)
    values = [macro_f1(counts_RC[rng.integers(size, size=size)].sum(axis=0))[2] for _ in range(resamples)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
