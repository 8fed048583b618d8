"""What the benchmarks of process reward models have in common: responses whose steps are labelled."""

from __future__ import annotations

from dataclasses import dataclass

from mstar.prompts.benchmarks.base import BenchmarkSource


@dataclass(frozen=True, slots=True)
class LabelledSteps:
    """A response with its human labels.

    Attributes:
        labels: For every step 1 (right), -1 (wrong) or 0 (not judged).
    """

    steps: tuple[str, ...]
    labels: tuple[int, ...]


class StepBenchmark(BenchmarkSource):
    """A benchmark of labelled steps, one response a prompt.

    Attributes:
        steps: For every prompt's id, the response to it.
    """

    steps: dict[str, LabelledSteps]
