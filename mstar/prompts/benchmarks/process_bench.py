"""ProcessBench: 3,400 solutions of text problems, labelled with their first wrong step (arXiv 2412.06559)."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import BenchmarkItem, LabelledSteps, StepBenchmark, clean, groups
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.types import Prompt

_RIGHT: Final = 1
_WRONG: Final = -1
_UNKNOWN: Final = 0


class ProcessBench(StepBenchmark):
    """ProcessBench (Qwen/ProcessBench), by part (gsm8k, math, olympiadbench, omnimath) and by generator.

    Steps before the first wrong one are right; what comes after it is not judged. Its own figure, F1, is the harmonic
    mean of ``first wrong step`` and ``none wrong``, by part, and the mean of the parts.

    Args:
        path: A file of one part, or the folder that holds them.

    Raises:
        DataError: the file cannot be read, or a label is not the number of a step, nor -1.
    """

    pictured: ClassVar[bool] = False
    averaged: str = "part"
    image_columns: ClassVar[tuple[str, ...]] = ()
    needed: ClassVar[tuple[str, ...]] = ("problem", "steps", "label")

    def __init__(self, path: str) -> None:
        super().__init__(path)

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        name = clean(values.get("id")) or str(row.number)
        # "gsm8k-17" is of the part gsm8k.
        part = name.rpartition("-")[0]
        prompt = Prompt(id=f"processbench-{name}", question=str(values["problem"]).strip(), category=part)
        facets = groups({**values, "part": part}, "part", "generator")
        return BenchmarkItem(prompt, facets, prompt.question, _read_steps(values["steps"], values["label"]))


def _read_steps(value: Any, label: Any) -> LabelledSteps:
    steps = tuple(str(step).strip() for step in value)
    first = int(label)
    if not steps or not all(steps):
        raise DataError("it has no steps, or a step without any text")
    if not -1 <= first < len(steps):
        raise DataError(f"its label is {first}, but it has {len(steps)} steps, and -1 says that none is wrong")
    if first < 0:
        return LabelledSteps(steps, (_RIGHT,) * len(steps))
    return LabelledSteps(steps, (*[_RIGHT] * first, _WRONG, *[_UNKNOWN] * (len(steps) - first - 1)))
