"""AI2D: questions about school-book diagrams, 3,088 in the test split (Kembhavi et al. 2016, arXiv 1603.07396)."""

from __future__ import annotations

from typing import ClassVar

from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, choice_prompt, clean, groups, lettered_options
from mstar.prompts.benchmarks.files import BenchmarkRow


class AI2D(FileBenchmark):
    """AI2D. Its cards state no licence. With and without the labels masked are two benchmarks; the file decides.

    ``path`` is the folder or Parquet file of lmms-lab/ai2d (options in a list, answers counted from 0), or VLMEvalKit's
    AI2D_TEST.tsv (columns A to D, answers by letter).
    """

    licence: ClassVar[str] = "not stated on the data set's card"
    default_split: ClassVar[str] = "test"
    needed: ClassVar[tuple[str, ...]] = ("question", "answer")

    def _names(self, split: str) -> tuple[str, ...]:
        return split, f"AI2D_{split.upper()}"

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        answer = clean(values["answer"])
        if "options" in values:
            choices = [str(option) for option in values["options"]]
            letter = chr(ord("A") + int(answer))
        else:
            options = {letter: str(values[letter] or "") for letter in "ABCDEFGH" if letter in values}
            choices, letter = lettered_options(options, answer.upper(), keep_letters=False)
        prompt = choice_prompt(
            prompt_id=f"ai2d-{clean(values.get('index')) or row.number}",
            question=clean(values["question"]),
            images=row.images,
            choices=choices,
            letter=letter,
            category=clean(values.get("category")),
        )
        return BenchmarkItem(prompt, groups(values, "category"), prompt.id)
