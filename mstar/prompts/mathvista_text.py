"""Questions and answers as MathVista and MathV360K write them: hint, question and options in one text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mstar.prompts.question_text import parse_choices, remove_placeholders, split_letter

_HINT: Final = re.compile(r"\s*Hint:[^\n]*(?:\n|\Z)", re.IGNORECASE)
_QUESTION: Final = re.compile(r"\s*Question:[^\S\n]*", re.IGNORECASE)
_CHOICES: Final = re.compile(r"(?:\A|\n)[^\S\n]*(?:Choices|Options):[^\S\n]*\n?", re.IGNORECASE)
_ANSWER: Final = re.compile(r"\b(?:the answer is\b[^\S\n]*:?|answer[^\S\n]*:)[^\S\n]*", re.IGNORECASE)


def parse_question(text: str) -> tuple[str, tuple[str, ...]]:
    r"""Takes a question of the MathVista family apart; the hint, ``<image>`` and the choices may each be missing.

    Args:
        text: For instance ``<image>\nHint: ...\nQuestion: ...\nChoices:\n(A) ...\n(B) ...``.

    Returns:
        The question, without hint, image placeholder, ``Question:`` and choices; and the options' texts, in order,
        none for an open question.
    """
    text = remove_placeholders(text)
    if match := _HINT.match(text):
        text = text[match.end() :]
    if match := _QUESTION.match(text):
        text = text[match.end() :]
    for match in reversed(list(_CHOICES.finditer(text))):
        choices = parse_choices(text[match.end() :])
        if choices:
            return text[: match.start()].strip(), choices
    return text.strip(), ()


def parse_answer(text: str, choices: Sequence[str] = ()) -> str:
    """The gold answer of a response: what follows the last "The answer is" (or "Answer:"), else the whole text.

    Args:
        choices: The question's options; an answer that names one by its letter becomes that letter.
    """
    answer = text.strip()
    for marker in _ANSWER.finditer(text):
        answer = text[marker.end() :].strip()
    if choices and answer not in choices and (named := split_letter(answer)):
        letter, rest = named
        number = ord(letter) - ord("A")
        if number < len(choices) and (not rest or _fold(rest) == _fold(choices[number])):
            return letter
    return answer


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")
