"""DynaMath: 501 questions in 10 variants each, 5,010 rows (Zou et al. 2024, arXiv 2411.00836)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Final

from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, clean, groups, without_pictures
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.types import AnswerIs, AnswerType, Prompt, Tolerance

_LETTERS: Final = tuple("ABCDEFGH")
_VARIANTS: Final = 10


class DynaMath(FileBenchmark):
    """DynaMath, by subject and level: average and worst-case accuracy.

    ``path`` is the folder of DynaMath/DynaMath_Sample, whose ten files (data/sample_variant1-*.parquet and on) are the
    variants, or one of the files; or the folder of what github.com/DynaMath/DynaMath has and generates
    (trial1/dataset.json and on, each beside its pictures). The worst case counts a question as right if all its
    variants are. As the official rule says (evaluation/ there), a number is right within 0.001 of the gold answer; its
    other answers are texts that hold the gold one, where ours are read and compared whole. Licence: Apache-2.0.
    """

    licence: ClassVar[str] = "Apache-2.0"
    image_columns: ClassVar[tuple[str, ...]] = ("decoded_image", "image")
    needed: ClassVar[tuple[str, ...]] = ("question", "answer_type", "subject")

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        seed, gold = clean(values.get("id", values.get("pid"))), clean(values.get("ground_truth", values.get("answer")))
        subject = clean(values["subject"])
        # The number tells the variants apart: each of the files has the same ids.
        prompt = Prompt(f"dynamath-{seed}-{row.number}", without_pictures(str(values["question"])), row.images, gold)
        if values["answer_type"] == "float":
            prompt = replace(prompt, answer_type=AnswerType.FLOAT, tolerance=Tolerance(absolute=0.001), precision=3)
        elif values["answer_type"] == "multiple choice":
            prompt = replace(prompt, answer_type=AnswerType.MULTI_CHOICE, choices=_LETTERS, answer_is=AnswerIs.LETTER)
        facets = groups({"subject": subject, "level": values.get("knowledge_level") or values.get("level")})
        prompt = replace(prompt, category=subject)
        return BenchmarkItem(prompt, facets, prompt.id, cluster=_question(prompt.id))

    def figures(self, correct: Mapping[str, bool]) -> Mapping[str, Sequence[float]]:
        """Worst-case accuracy: for every question, whether all its variants are right."""
        variants: dict[str, list[bool]] = defaultdict(list)
        for prompt_id, right in correct.items():
            variants[_question(prompt_id)].append(right)
        return {"worst case over variants": [float(all(rights)) for rights in variants.values()]}

    def _find_notes(self) -> tuple[str, ...]:
        """A note, if variants are missing: the worst of fewer is better."""
        variants = Counter(_question(item.prompt.id) for item in self.items)
        short = sum(count < _VARIANTS for count in variants.values())
        if not short:
            return ()
        return (
            f"{short} of {len(variants)} questions have fewer than {_VARIANTS} variants: their worst case is of those.",
        )


def _question(prompt_id: str) -> str:
    """What the variants of a question have in common: all but the number of the row."""
    return prompt_id.rpartition("-")[0]
