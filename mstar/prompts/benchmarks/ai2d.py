"""AI2D: questions about school-book diagrams, 3,088 in the test split (Kembhavi et al. 2016, arXiv 1603.07396)."""

from __future__ import annotations

from typing import ClassVar

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, choice_prompt, clean, lettered_options
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
        return _listed(row) if "options" in row.values else _lettered(row)


def _listed(row: BenchmarkRow) -> BenchmarkItem:
    choices = [str(option) for option in row.values["options"]]
    answer = clean(row.values["answer"])
    if not answer.isdecimal() or int(answer) >= len(choices):
        raise DataError(f"the answer '{answer}' is not the number, from 0, of one of its {len(choices)} options")
    return _item(row, choices, chr(ord("A") + int(answer)))


def _lettered(row: BenchmarkRow) -> BenchmarkItem:
    values = row.values
    options = {letter: str(values[letter] or "") for letter in "ABCDEFGH" if letter in values}
    choices, letter = lettered_options(options, clean(values["answer"]).upper(), keep_letters=False)
    return _item(row, choices, letter)


def _item(row: BenchmarkRow, choices: list[str], letter: str) -> BenchmarkItem:
    category = clean(row.values.get("category"))
    prompt = choice_prompt(
        prompt_id=f"ai2d-{clean(row.values.get('index')) or row.number}",
        question=clean(row.values["question"]),
        images=row.images,
        choices=choices,
        letter=letter,
        category=category,
    )
    return BenchmarkItem(prompt, (("category", category),) if category else (), prompt.id)
