"""Results of a benchmark's questions, for the tests of its scores and of its files."""

from __future__ import annotations

from collections.abc import Sequence

from mstar.evaluation.benchmark import ItemResult, score_benchmark
from mstar.prompts.benchmarks import BenchmarkItem
from mstar.types import Prompt, Response, ScoredResponse, Verdict, VerdictStatus


def scored(prompt_id: str, index: int, right: bool, answer: str = "", reward: float | None = None) -> ScoredResponse:
    text = answer or ("right" if right else "wrong")
    response = Response(prompt_id, index, text, 3, True, 1.0 if index else 0.0, -1.0)
    return ScoredResponse(response, Verdict(right, text, VerdictStatus.GRADED), process_reward=reward)


def item(prompt_id: str, greedy: bool, samples: Sequence[tuple[bool, str, float]] = ()) -> ItemResult:
    drawn = tuple(scored(prompt_id, i, *sample) for i, sample in enumerate(samples, start=1))
    return ItemResult(prompt_id, scored(prompt_id, 0, greedy), drawn)


def score(items: Sequence[ItemResult], facets: dict[str, list[tuple[str, str]]] | None = None, **options: object):  # type: ignore[no-untyped-def]
    rows = {
        name: BenchmarkItem(Prompt(name, "?"), tuple((facets or {}).get(name, ())), name.partition("/")[0])
        for name in (one.prompt_id for one in items)
    }
    return score_benchmark("X", items, rows, **options)  # type: ignore[arg-type]
