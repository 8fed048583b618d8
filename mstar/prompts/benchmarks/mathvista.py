"""MathVista: mathematical reasoning about pictures, 1,000 questions in testmini (Lu et al. 2024, arXiv 2310.02255)."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, clean
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.prompts.mathvista_text import parse_question
from mstar.prompts.question_text import render_choices
from mstar.types import AnswerType, Prompt

_TASKS: Final = {
    "figure question answering": "FQA",
    "geometry problem solving": "GPS",
    "math word problem": "MWP",
    "textbook question answering": "TQA",
    "visual question answering": "VQA",
}
# The groups of the official score (evaluation/calculate_score.py).
_GROUPS: Final = (
    "task", "skills", "context", "category", "grade", "source", "question_type", "answer_type", "language",
)  # fmt: skip
_NUMBERS: Final = ("one", "two", "three", "four")
_DECIMALS: Final = re.compile(rf"floating-point number with ({'|'.join(_NUMBERS)}) decimal", re.IGNORECASE)


class MathVista(FileBenchmark):
    """MathVista, by its five tasks (FQA, GPS, MWP, TQA, VQA) and the groups of its official score.

    The licence is CC BY-SA 4.0, and its authors allow it as a test set only: **training on it is prohibited**.

    Args:
        path: The data set's folder or Parquet file, testmini.json (pictures in ``image_root``), or the
            MathVista_MINI.tsv of VLMEvalKit.
        question_format: plain asks as the training data does (question, unit, choices); official asks the benchmark's
            own ``query``, which also has a hint on the answer's form.
        settings: Those that all benchmarks have. The answers of the split ``test`` are not public; ``image_root`` is
            the folder of the picture files that testmini.json names (its ``images/1.jpg`` is below it).

    Raises:
        DataError: the file cannot be read, or has no answers.
    """

    licence: ClassVar[str] = "CC BY-SA 4.0; test set only, training on it is prohibited by its authors"
    test_only: ClassVar[bool] = True
    default_split: ClassVar[str] = "testmini"
    image_columns: ClassVar[tuple[str, ...]] = ("decoded_image", "image")
    needed: ClassVar[tuple[str, ...]] = ("question", "choices", "answer", "question_type", "answer_type")

    def __init__(self, path: str, question_format: Literal["plain", "official"] = "plain", **settings: Any) -> None:
        self._official = question_format == "official"
        super().__init__(path, **settings)

    def _names(self, split: str) -> tuple[str, ...]:
        return split, f"annot_{split}"

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        pid = clean(values.get("pid")) or clean(values.get("index")) or str(row.number)
        answer = clean(values["answer"])
        if not answer:
            raise DataError(f"question {pid} has no answer; the answers of the test split are not public, use testmini")
        # VLMEvalKit's question is the official query, with a hint before it or choices behind; then it is taken apart.
        text = str(values["question"]).strip()
        asked, listed = parse_question(text)
        chosen = values["question_type"] == AnswerType.MULTI_CHOICE
        choices = _choices(values["choices"]) if chosen else ()
        unit = clean(values.get("unit")) or None
        question = asked if listed or text.casefold().startswith("hint:") else text
        if unit and f"(Unit: {unit})" not in question:
            question = f"{question} (Unit: {unit})"
        plain = render_choices(question, choices)
        prompt = Prompt(
            id=f"mathvista-{pid}",
            question=clean(values.get("query")) or str(values["question"]) if self._official else plain,
            images=row.images,
            answer=_gold(choices, answer) if chosen else answer,
            answer_type=AnswerType.MULTI_CHOICE if chosen else AnswerType(values["answer_type"]),
            choices=choices,
            category=_TASKS.get(_facts(values).get("task", ""), ""),
            precision=_precision(values, answer) if values["answer_type"] == AnswerType.FLOAT else None,
            unit=unit,
        )
        return BenchmarkItem(prompt, tuple(_facets(values)), prompt.id)


def _precision(values: Mapping[str, Any], answer: str) -> int:
    """The decimals that are asked for: a column, in the hint of the official query, or those of the gold answer."""
    if given := clean(values.get("precision")):
        return int(float(given))
    if match := _DECIMALS.search(str(values["question"])):
        return _NUMBERS.index(match[1].lower()) + 1
    return len(answer.partition(".")[2])


def _choices(value: Any) -> tuple[str, ...]:
    """The options' texts of a list, or of a list's Python literal in a TSV."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError) as error:
            raise DataError(f"its choices are no list: {value!r}") from error
    choices = tuple(map(str, value or ()))
    if len(choices) < 2:
        raise DataError("a multiple-choice question has fewer than two choices")
    return choices


def _gold(choices: tuple[str, ...], answer: str) -> str:
    """The choice that the answer is, spelt as it is there; choices may be letters, so the answer is not read as one."""
    return next((choice for choice in choices if choice.strip() == answer), answer)


def _facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row's groups, which the TSV has as columns and the others in ``metadata``."""
    return {**values, **(values.get("metadata") or {})}


def _facets(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = _facts(values)
    found = []
    for group in _GROUPS:
        value = facts.get(group)
        if group == "skills" and isinstance(value, str) and value.startswith("["):
            value = ast.literal_eval(value)
        for item in value if isinstance(value, list) else [value]:
            if text := clean(item):
                found.append((group, _TASKS.get(text, text)))
    return found
