"""M3CoT: multi-domain, multi-step multimodal reasoning, 2,318 test questions (Chen et al. 2024, arXiv 2405.16473)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import BenchmarkItem, BenchmarkSource, build_items, choice_prompt, clean, require
from mstar.prompts.benchmarks.files import BenchmarkRow, read_benchmark
from mstar.prompts.images import PixelLimits

# The authors' own copy calls "dev" what the hub's calls "validation".
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("train",),
    "validation": ("validation", "dev", "val"),
    "dev": ("validation", "dev", "val"),
    "test": ("test",),
}


class M3CoT(BenchmarkSource):
    """M3CoT, by domain, topic and category. Licence: CC BY-SA 4.0.

    Args:
        path: The data set's folder (``<split>-*.parquet``, or ``<split>.jsonl`` of the authors' copy) or one file.
        split: train, validation (also called dev) or test.
        image_root: The folder of the picture files that the authors' JSONL names.
        question_format: plain asks as the training data does; official asks as the authors' own runs do.
        instruction: A line that is added to every question.
        pixels: Least and most pixels of a picture.

    Raises:
        DataError: the file cannot be read, or has none of the split's rows.
    """

    licence: ClassVar[str] = "CC BY-SA 4.0"

    def __init__(
        self,
        path: str,
        split: Literal["train", "validation", "dev", "test"] = "test",
        image_root: str | None = None,
        question_format: Literal["plain", "official"] = "plain",
        instruction: str = "",
        pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
    ) -> None:
        names = _NAMES[split]
        self.origin = path
        rows = read_benchmark(path, ("image",), names, image_root, pixels)
        require("M3CoT", path, rows, ("id", "question", "choices", "answer", "domain", "topic"))
        official = question_format == "official"

        def build(row: BenchmarkRow) -> BenchmarkItem | None:
            return _item(row, official) if (clean(row.values.get("split")) or names[0]) in names else None

        items = build_items("M3CoT", rows, build, instruction)
        if not items:
            found = sorted({clean(row.values.get("split")) for row in rows})
            raise DataError(f"M3CoT: '{path}' has no rows of the split '{split}'; it has {found}.")
        super().__init__("M3CoT", items)


def _item(row: BenchmarkRow, official: bool) -> BenchmarkItem:
    values = row.values
    question, context = clean(values["question"]), clean(values.get("context"))
    choices = [str(choice) for choice in values["choices"]]
    prompt = choice_prompt(
        prompt_id=f"m3cot-{clean(values['id'])}",
        question=f"{context}\n{question}" if context else question,
        images=row.images,
        choices=choices,
        letter=clean(values["answer"]),
        category=clean(values["domain"]),
        official=_ask(question, context, choices) if official else None,
    )
    return BenchmarkItem(prompt, tuple(_facets(values)), prompt.id)


def _ask(question: str, context: str, choices: list[str]) -> str:
    lines = [f"({chr(ord('A') + number)}) {choice}" for number, choice in enumerate(choices)]
    before = f"[Context]\n{context}\n\n" if context else ""
    return before + "\n".join([f"[Question]\n{question}", "[Choices]", *lines])


def _facets(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, text) for name in ("domain", "topic", "category") if (text := clean(values.get(name)))]
