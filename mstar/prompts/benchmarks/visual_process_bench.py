"""VisualProcessBench: 2,866 responses with human labels on their steps (Wang et al. 2025, arXiv 2503.10291)."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import BenchmarkItem, LabelledSteps, StepBenchmark, clean, groups
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.prompts.question_text import remove_placeholders
from mstar.types import Prompt

_LABELS: Final = (-1, 0, 1)


class VisualProcessBench(StepBenchmark):
    """VisualProcessBench, by source of the questions and by the model that wrote the responses. Licence: MIT.

    Args:
        path: test.jsonl, or the folder that holds it.

    Raises:
        DataError: the file cannot be read, or a response's steps are not labelled one by one with 1, -1 or 0.
    """

    licence: ClassVar[str] = "MIT"
    default_split: ClassVar[str] = "test"
    image_columns: ClassVar[tuple[str, ...]] = ("image", "images")
    needed: ClassVar[tuple[str, ...]] = ("question", "response")

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        prompt = Prompt(
            id=f"visualprocessbench-{row.number}",
            question=remove_placeholders(str(values["question"])),
            images=row.images,
            answer=clean(values.get("answer")) or None,
            category=clean(values.get("data_source")),
        )
        # Responses to one question stay together when the labels are split.
        key = "\x1f".join([prompt.question, *(image.uri for image in row.images)])
        facets = groups(values, "data_source", "policy_model")
        return BenchmarkItem(prompt, facets, key, _read_steps(values["response"]))


def _read_steps(value: Any) -> LabelledSteps:
    if not isinstance(value, dict) or not {"steps", "process_correctness"} <= value.keys():
        raise DataError(f"its response has no steps and process_correctness: {str(value)[:100]}")
    steps = [str(step).strip() for step in value["steps"]]
    labels = [int(label) for label in value["process_correctness"]]
    if len(steps) != len(labels):
        raise DataError(f"its response has {len(steps)} steps and {len(labels)} labels")
    if unknown := sorted(set(labels) - set(_LABELS)):
        raise DataError(f"its steps have the labels {unknown}; known are 1 (right), -1 (wrong) and 0 (neutral)")
    # A step without any visible character is nothing that could be scored.
    kept = [(step, label) for step, label in zip(steps, labels, strict=True) if step]
    if not kept:
        raise DataError("its response has no steps")
    return LabelledSteps(tuple(step for step, _ in kept), tuple(label for _, label in kept))
