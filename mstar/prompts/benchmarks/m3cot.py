"""M3CoT: multi-domain, multi-step multimodal reasoning, 2,318 test questions (Chen et al. 2024, arXiv 2405.16473)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, choice_prompt, clean, groups
from mstar.prompts.benchmarks.files import BenchmarkRow

# The authors' own copy calls "dev" what the hub's calls "validation".
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("train",),
    "validation": ("validation", "dev", "val"),
    "dev": ("validation", "dev", "val"),
    "test": ("test",),
}


class M3CoT(FileBenchmark):
    """M3CoT, by domain, topic and category. Licence: CC BY-SA 4.0.

    Args:
        path: The data set's folder (``<split>-*.parquet``, or ``<split>.jsonl`` of the authors' copy) or one file.
        split: train, validation (also called dev) or test.
        question_format: plain asks as the training data does; official asks as the authors' own runs do.
        settings: Those that all benchmarks have.

    Raises:
        DataError: the file cannot be read, or has none of the split's rows.
    """

    licence: ClassVar[str] = "CC BY-SA 4.0"
    needed: ClassVar[tuple[str, ...]] = ("id", "question", "choices", "answer", "domain", "topic")

    def __init__(
        self,
        path: str,
        split: Literal["train", "validation", "dev", "test"] = "test",
        question_format: Literal["plain", "official"] = "plain",
        **settings: Any,
    ) -> None:
        self._official = question_format == "official"
        super().__init__(path, split, **settings)

    def _names(self, split: str) -> tuple[str, ...]:
        return _NAMES[split]

    def _prepare(self, rows: Sequence[BenchmarkRow], splits: Sequence[str]) -> Sequence[BenchmarkRow]:
        named = [clean(row.values.get("split")) or splits[0] for row in rows]
        wanted = [row for row, name in zip(rows, named, strict=True) if name in splits]
        if not wanted:
            found = sorted(set(named))
            raise DataError(f"M3CoT: '{self.origin}' has no rows of the split '{splits[0]}'; it has {found}.")
        return wanted

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
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
            official=_ask(question, context, choices) if self._official else None,
        )
        return BenchmarkItem(prompt, groups(values, "domain", "topic", "category"), prompt.id)


def _ask(question: str, context: str, choices: list[str]) -> str:
    lines = [f"({chr(ord('A') + number)}) {choice}" for number, choice in enumerate(choices)]
    before = f"[Context]\n{context}\n\n" if context else ""
    return before + "\n".join([f"[Question]\n{question}", "[Choices]", *lines])
