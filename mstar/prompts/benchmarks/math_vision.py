"""MATH-Vision: competition mathematics with pictures, 3,040 questions in test, 304 in testmini (arXiv 2402.14804)."""

from __future__ import annotations

from typing import ClassVar

from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, choice_prompt, clean, without_pictures
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.prompts.question_text import infer_answer_type
from mstar.types import Prompt


class MathVision(FileBenchmark):
    """MATH-Vision, by subject and level. Licence: MIT.

    ``path`` is the folder or a Parquet file of MathLLMs/MathVision, or test.jsonl of github.com/mathllm/MATH-V, whose
    pictures are beside its folder (``image_root``). A picture file holds all pictures of its question. The official
    rule (evaluation/evaluate.py there) takes an answer that is the gold letter or the gold option's value; ours does,
    too, and reads numbers and formulas by their value.
    """

    licence: ClassVar[str] = "MIT"
    default_split: ClassVar[str] = "test"
    image_columns: ClassVar[tuple[str, ...]] = ("decoded_image", "image")
    needed: ClassVar[tuple[str, ...]] = ("id", "question", "options", "answer", "level", "subject")

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        number, subject, answer = clean(values["id"]), clean(values["subject"]), clean(values["answer"])
        question, choices = without_pictures(str(values["question"])), [str(text) for text in values["options"]]
        if choices:
            prompt = choice_prompt(f"mathvision-{number}", question, row.images, choices, answer, subject)
        else:
            kind = infer_answer_type(answer, ())
            prompt = Prompt(f"mathvision-{number}", question, row.images, answer, kind, category=subject)
        return BenchmarkItem(prompt, (("subject", subject), ("level", clean(values["level"]))), prompt.id)
