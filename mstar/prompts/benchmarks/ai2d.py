"""AI2D: questions about school-book diagrams, 3,088 in the test split (Kembhavi et al. 2016, arXiv 1603.07396)."""

from __future__ import annotations

from typing import ClassVar

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import (
    BenchmarkItem,
    BenchmarkSource,
    build_items,
    choice_prompt,
    clean,
    lettered_options,
    require,
)
from mstar.prompts.benchmarks.files import BenchmarkRow, read_benchmark
from mstar.prompts.images import PixelLimits

__all__ = ["AI2D"]


class AI2D(BenchmarkSource):
    """AI2D. Its cards state no licence. With and without the labels masked are two benchmarks; the file decides.

    Args:
        path: The folder or Parquet file of lmms-lab/ai2d (options in a list, answers counted from 0), or VLMEvalKit's
            AI2D_TEST.tsv (columns A to D, answers by letter).
        split: Which split of a folder.
        image_root: The folder of picture files, for copies that name them.
        instruction: A line that is added to every question.
        pixels: Least and most pixels of a picture.

    Raises:
        DataError: the file cannot be read.
    """

    licence: ClassVar[str] = "not stated on the data set's card"

    def __init__(
        self,
        path: str,
        split: str = "test",
        image_root: str | None = None,
        instruction: str = "",
        pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
    ) -> None:
        self.origin = path
        file = read_benchmark(path, ("image",), (split, f"AI2D_{split.upper()}"), image_root, pixels)
        listed = "options" in file.columns
        require(file.columns, ("question", "answer", *(() if listed else ("A", "B"))), f"AI2D: {file.where}")
        super().__init__("AI2D", build_items("AI2D", file.rows, _listed if listed else _lettered, instruction))


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
