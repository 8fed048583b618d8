"""ChartQA: questions about charts, 2,500 in test (Masry et al. 2022, arXiv 2203.10244)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, clean
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.prompts.question_text import infer_answer_type
from mstar.types import AnswerType, Prompt, Tolerance

_RELAXED: Final = Tolerance(relative=0.05)
_WRITERS: Final[Mapping[str, str]] = {"0": "human", "1": "augmented", "machine": "augmented"}


class ChartQA(FileBenchmark):
    """ChartQA by who wrote the questions (human, augmented); its score is the mean of the two.

    ``path`` is the folder or file of HuggingFaceM4/ChartQA (query, label, human_or_machine) or lmms-lab/ChartQA
    (question, answer, type), or the folder ``ChartQA Dataset`` of github.com/vis-nlp/ChartQA, or its split's
    (imgname, query, label; who wrote them is in the file's name, and the pictures are in png beside it). The official
    relaxed accuracy allows a number to be 5 % off, and asks for any other answer as it is, up to case; a year is a
    number there, too.
    Licence: GPL-3.0.
    """

    licence: ClassVar[str] = "GPL-3.0"
    averaged: str = "written by"
    default_split: ClassVar[str] = "test"
    image_columns: ClassVar[tuple[str, ...]] = ("image", "imgname")
    image_folder: ClassVar[str] = "png"

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        golds = _texts(values.get("label", values.get("answer")))
        prompt = Prompt(f"chartqa-{row.number}", clean(values.get("query") or values["question"]), row.images)
        kind = infer_answer_type(golds[0].rstrip("%"), ())
        number = kind in (AnswerType.INTEGER, AnswerType.FLOAT)
        given = clean(values.get("human_or_machine", values.get("type", row.file)))
        named = (writer for writer in ("human", "augmented") if writer in given)
        writer = _WRITERS.get(given) or next(named, given)
        prompt = replace(
            prompt,
            answer=golds[0],
            answers=golds[1:],
            answer_type=AnswerType.FLOAT if number else AnswerType.TEXT,
            tolerance=_RELAXED if number else None,
            category=writer,
        )
        return BenchmarkItem(prompt, (("written by", writer),), prompt.id)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (clean(value),)
