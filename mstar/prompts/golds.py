"""The gold answer of a row: what the column holds, how it names an option, and how it is compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mstar.grading.commitment import find_committed
from mstar.prompts.cells import read_texts
from mstar.prompts.question_text import infer_answer_type, names_letters
from mstar.types import AnswerType

__all__ = ["answer_type_of", "find_numbering", "read_gold"]


def read_gold(value: Any, column: str, kind: Any, choices: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """The gold answers of a cell, and the solution where the cell holds one that ends with the answer.

    Args:
        value: The answer or a list of all that are right; or a solution with the answer in a box or behind a marker
            (GSM8K: ``#### 72``, MATH: a box).
        column: The column, for the message.
        kind: The type of answer that the row names.
        choices: The question's options.

    Raises:
        RowError: it holds something else.
    """
    gold = read_texts(value, column)
    if isinstance(value, list) and gold and kind in (AnswerType.LIST, AnswerType.SET):
        return (f"[{', '.join(gold)}]",), None
    if choices and len(gold) > 1:
        # Several options, and not one in several spellings.
        return (", ".join(gold),), None
    if len(gold) != 1 or gold[0] in choices or not (committed := find_committed(gold[0])):
        return gold, None
    return (committed,), gold[0] if "\n" in gold[0] and committed != gold[0] else None


def find_numbering(rows: Iterable[tuple[tuple[str, ...], int, bool]]) -> str | None:
    """Whether all answers are numbers of options, from 0 (``index0``) or from 1 (``index1``); None if they are not.

    Args:
        rows: The gold answers of every row, the number of its options, and whether an answer is the text of one.
    """
    numbers, texts = [], 0
    for answers, size, is_text in rows:
        if len(answers) > 1 or not answers[0].isdecimal():
            return None
        texts += is_text
        numbers.append((int(answers[0]), size))
    # Options that are numbers may hold the number of another by chance, as in MMLU.
    if not numbers or 2 * texts > len(numbers):
        return None
    first, last = min(number for number, _ in numbers), max(number - size for number, size in numbers)
    # One of the two ends must be seen to tell them apart.
    return {(True, True): "index0", (False, False): "index1"}.get((first == 0, last < 0)) if last <= 0 else None


def answer_type_of(value: Any, answer: str | None, choices: tuple[str, ...]) -> AnswerType:
    """How an answer is compared: as the row says, where that fits, else by its own form."""
    known = isinstance(value, str) and value in set(AnswerType)
    # MathVista says "text" of the answers of multiple-choice questions too.
    fits = value != "text" if choices else value != "multi_choice"
    if known and fits:
        return AnswerType(value)
    # A letter without options: they are in the picture.
    return AnswerType.MULTI_CHOICE if names_letters(answer) else infer_answer_type(answer, choices)
