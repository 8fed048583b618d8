"""LogicVista: 447 questions of visual logic (Xiao et al. 2024, arXiv 2407.04973)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar, Final

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, clean
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.types import AnswerIs, AnswerType, Prompt

_SEPARATOR: Final = re.compile(r"[,\s;]+")
# The repository's description names capability, and its file has a broad and a specific one.
_FACETS: Final = ("skill", "capability", "broad_capability", "specific_capability")
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class LogicVista(FileBenchmark):
    """LogicVista, by reasoning skill and capability.

    ``path`` is data/dataset.json of github.com/Yijia-Xiao/LogicVista, an object of objects; the pictures are in images
    beside it. Its choices stand in the picture, and some questions have several right letters, all of which must be
    named; one is answered with a number. Of its 448 rows, one (v1_382) has neither question nor answer and is left
    out. The official extraction asks a language model, so only our own rules can be applied. The repository states no
    licence for the data, whose sources are tests of others.
    """

    licence: ClassVar[str] = "not stated for the data"
    image_columns: ClassVar[tuple[str, ...]] = ("imagename",)
    image_folder: ClassVar[str] = "images"
    needed: ClassVar[tuple[str, ...]] = ("pid", "imagename", "question", "answer", "skill")

    def _item(self, row: BenchmarkRow) -> BenchmarkItem | None:
        values = row.values
        if not clean(values["question"]) and not clean(values["answer"]):
            return None
        golds = [part.strip("().") for part in _SEPARATOR.split(clean(values["answer"])) if part.strip("().")]
        if not golds:
            raise DataError(f"'{values['pid']}' has no answer")
        letters = all(len(gold) == 1 and gold.upper() in _LETTERS for gold in golds)
        # How many choices the picture has is not said: as many as there are letters up to the last one that is named.
        last = max((_LETTERS.index(gold.upper()) for gold in golds), default=0) if letters else 0
        prompt = Prompt(
            id=f"logicvista-{values['pid']}",
            question=clean(values["question"]),
            images=row.images,
            answer=", ".join(golds) if letters else clean(values["answer"]),
            answer_type=AnswerType.TEXT,
            category=", ".join(values["skill"]),
        )
        if letters:
            kind = AnswerType.MULTI_SELECT if len(golds) > 1 else AnswerType.MULTI_CHOICE
            choices = tuple(_LETTERS[: max(last + 1, 5)])
            prompt = replace(prompt, answer_type=kind, answer_is=AnswerIs.LETTER, choices=choices)
        facets = [(name, str(item)) for name in _FACETS for item in values.get(name) or ()]
        return BenchmarkItem(prompt, tuple(facets), prompt.id)
