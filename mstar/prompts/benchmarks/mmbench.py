"""MMBench: multiple choice with circular evaluation (Liu et al. 2023, arXiv 2307.06281), and MMBench-R."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, choice_prompt, clean, groups, lettered_options
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.types import ImageReference

# What MMBench-R leaves out; left are attribute_reasoning, logic_reasoning and relation_reasoning, as the files say.
_PERCEPTION: Final = "perception"
_SHIFT: Final = 1_000_000
_ASK: Final = "Please select the correct answer from the options above."


class MMBench(FileBenchmark):
    """MMBench with circular evaluation: a question counts only if the answer is right in every rotation of its options.

    Rows whose indices differ by multiples of 1,000,000 are rotations of one question. Made for dev v1.1
    (MMBench_DEV_EN_V11.tsv); v1.0 has the same columns, but other questions, so that their scores do not compare.

    Args:
        path: The TSV, or a Parquet file with the same columns.
        subset: all, or reasoning for MMBench-R: attribute, logical and relation reasoning (LLaVA-CoT, arXiv 2411.10440,
            appendix E).
        circular: Count a question once, and as right if it is right in every rotation; otherwise every row counts.
        question_format: plain asks as the training data does; official asks as VLMEvalKit does.
        settings: Those that all benchmarks have.

    Raises:
        DataError: the file cannot be read, or a row names a picture of a row that has none.
    """

    licence: ClassVar[str] = "CC BY 4.0, by the card of opencompass/MMBench"
    needed: ClassVar[tuple[str, ...]] = ("index", "question", "a", "b", "answer", "category", "l2-category")

    def __init__(
        self,
        path: str,
        subset: Literal["all", "reasoning"] = "all",
        circular: bool = True,
        question_format: Literal["plain", "official"] = "plain",
        **settings: Any,
    ) -> None:
        self._official, self._whole, self._circular = question_format == "official", subset == "all", circular
        super().__init__(path, split=None, **settings)
        self.name = "MMBench" if self._whole else "MMBench-R"

    def _prepare(self, rows: Sequence[BenchmarkRow], splits: Sequence[str]) -> Sequence[BenchmarkRow]:
        lowered = [replace(row, values={name.lower(): value for name, value in row.values.items()}) for row in rows]
        self._pictures = {_key(row.values.get("index")): row for row in lowered}
        return lowered

    def _item(self, row: BenchmarkRow) -> BenchmarkItem | None:
        values = row.values
        if not self._whole and _PERCEPTION in clean(values["l2-category"]).lower():
            return None
        index = _key(values["index"])
        question, hint = clean(values["question"]), clean(values.get("hint"))
        options = {letter: str(values.get(letter.lower()) or "") for letter in "ABCDEFGH" if letter.lower() in values}
        choices, letter = lettered_options(options, clean(values["answer"]).upper(), keep_letters=self._official)
        prompt = choice_prompt(
            prompt_id=f"mmbench-{index}",
            question=f"{hint}\n{question}" if hint else question,
            images=_images(row, self._pictures),
            choices=choices,
            letter=letter,
            category=clean(values["l2-category"]).lower(),
            official=_ask(question, hint, choices) if self._official else None,
        )
        facets = tuple((name, text.lower()) for name, text in groups(values, "l2-category", "category"))
        return BenchmarkItem(prompt, facets, f"mmbench-{int(index) % _SHIFT}" if self._circular else prompt.id)

    def _find_notes(self) -> tuple[str, ...]:
        """A note, if the file lacks rotations: a score on fewer of them is too high."""
        rows = Counter(item.question_key for item in self.items)
        options = {item.question_key: len(item.prompt.choices) for item in self.items}
        short = sum(count < options[key] for key, count in rows.items())
        if not self._circular or not short:
            return ()
        return (
            f"{short} of {len(rows)} questions have fewer rotations than options, so the score is not circular for "
            "them.",
        )


def _key(value: Any) -> str:
    """A row's index as text; a spreadsheet may have made a float of it."""
    text = clean(value)
    return str(int(float(text))) if text.replace(".", "", 1).isdigit() else text


def _images(row: BenchmarkRow, rows: Mapping[str, BenchmarkRow]) -> tuple[ImageReference, ...]:
    """The row's picture, or that of the row that its cell names; rotations share one."""
    seen: set[str] = set()
    while not row.images:
        target = _key(row.values.get("image"))
        if target in seen or target not in rows:
            raise DataError(f"its image cell {str(row.values.get('image'))!r} names no row with a picture")
        seen.add(target)
        row = rows[target]
    return row.images


def _ask(question: str, hint: str, choices: list[str]) -> str:
    lines = [f"{chr(ord('A') + number)}. {choice}" for number, choice in enumerate(choices)]
    return "\n".join([*([f"Hint: {hint}"] if hint else []), f"Question: {question}", "Options:", *lines, _ASK])
