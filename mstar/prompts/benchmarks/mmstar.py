"""MMStar: 1,500 vision-indispensable questions in six categories (Chen et al. 2024, arXiv 2403.20330), and MMStar-R."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final, Literal

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import (
    BenchmarkItem,
    FileBenchmark,
    choice_prompt,
    clean,
    groups,
    lettered_options,
    without_pictures,
)
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.prompts.mathvista_text import parse_question
from mstar.prompts.question_text import parse_choices

_REASONING: Final = ("instance reasoning", "logical reasoning", "math", "science & technology")
_OPTIONS: Final = re.compile(r"\s*\bOptions:\s*(?=A: )")
_FIRST: Final = re.compile(r"\(A\)")


class MMStar(FileBenchmark):
    """MMStar, by category; its score is the mean of the categories. Its card states no licence.

    Args:
        path: mmstar.parquet or MMStar.tsv.
        subset: all, or reasoning for MMStar-R: instance and logical reasoning, math, science & technology (LLaVA-CoT,
            arXiv 2411.10440, appendix E).
        question_format: plain asks as the training data does, with the options taken out of the question's text and
            empty ones left out; official asks the text as it stands.
        settings: Those that all benchmarks have.

    Raises:
        DataError: the file cannot be read, or a question's options cannot be found in its text.
    """

    licence: ClassVar[str] = "not stated on the data set's card"
    averaged = "category"
    needed: ClassVar[tuple[str, ...]] = ("question", "answer", "category")

    def __init__(
        self,
        path: str,
        subset: Literal["all", "reasoning"] = "all",
        question_format: Literal["plain", "official"] = "plain",
        **settings: Any,
    ) -> None:
        self._official, self._whole = question_format == "official", subset == "all"
        super().__init__(path, split=None, **settings)
        self.name = "MMStar" if self._whole else "MMStar-R"

    def _item(self, row: BenchmarkRow) -> BenchmarkItem | None:
        values = row.values
        if not self._whole and clean(values["category"]) not in _REASONING:
            return None
        text = str(values["question"]).strip()
        question, options = split_question(text)
        choices, letter = lettered_options(options, clean(values["answer"]).upper(), keep_letters=self._official)
        prompt = choice_prompt(
            prompt_id=f"mmstar-{clean(values.get('index')) or row.number}",
            question=without_pictures(question),
            images=row.images,
            choices=choices,
            letter=letter,
            category=clean(values["category"]),
            official=without_pictures(text) if self._official else None,
        )
        source = (values.get("meta_info") or {}).get("source") or values.get("bench")
        facets = groups({**values, "source": source}, "category", "l2_category", "source")
        return BenchmarkItem(prompt, facets, prompt.id)


def split_question(text: str) -> tuple[str, dict[str, str]]:
    r"""Takes a question and its options apart.

    MMStar's text has one of three forms: ``...\nOptions: A: x, B: y, C: nan, D: nan``;
    ``Hint: ...\nQuestion: ...\nChoices:\n(A) x\n(B) y``; and the same without the words.

    Returns:
        The question, and the options' texts by letter.

    Raises:
        DataError: there are no options in it.
    """
    if (match := list(_OPTIONS.finditer(text))[-1:]) and len(found := _split_inline(text[match[0].end() :])) > 1:
        return text[: match[0].start()].strip(), _by_letter(found)
    question, choices = parse_question(text)
    if choices:
        return question, _by_letter(list(choices))
    # An option may itself name (A) and (B), so the start that gives most options is the list's; of equals the last.
    starts = [match.start() for match in _FIRST.finditer(question)]
    lists = [(len(parse_choices(question[start:])), start) for start in starts]
    count, start = max(lists, default=(0, 0))
    if count < 2:
        raise DataError(f"its options cannot be found in the text {text[-200:]!r}")
    return question[:start].strip(), _by_letter(list(parse_choices(question[start:])))


def _split_inline(text: str) -> list[str]:
    """The options of ``A: x, B: y``, whose letters come in order; a text may have commas and colons in it."""
    options, rest = [], text[len("A: ") :]
    for letter in "BCDEFGH":
        option, separator, after = rest.partition(f", {letter}: ")
        if not separator:
            break
        options.append(option)
        rest = after
    return [*options, rest]


def _by_letter(texts: list[str]) -> dict[str, str]:
    return {chr(ord("A") + number): text.strip() for number, text in enumerate(texts)}
