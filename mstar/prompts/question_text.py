"""The text of questions and answers, as data sets of the MathVista family write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mstar.types import AnswerType

__all__ = [
    "QuestionText",
    "infer_answer_type",
    "parse_answer",
    "parse_choices",
    "parse_question",
    "remove_placeholders",
    "render_choices",
]

_PLACEHOLDER: Final = "<image>"
_HINT: Final = re.compile(r"\s*Hint:[^\n]*(?:\n|\Z)", re.IGNORECASE)
_QUESTION: Final = re.compile(r"\s*Question:[^\S\n]*", re.IGNORECASE)
_CHOICES: Final = re.compile(r"(?:\A|\n)[^\S\n]*(?:Choices|Options):[^\S\n]*\n?", re.IGNORECASE)
_ANSWER: Final = re.compile(r"\b(?:the answer is\b[^\S\n]*:?|answer[^\S\n]*:)[^\S\n]*", re.IGNORECASE)
_LETTER: Final = re.compile(r"\(?([A-Za-z])(?:\)|[.:](?=\s|\Z)|(?=\Z))\s*(.*)", re.DOTALL)
_INTEGER: Final = re.compile(r"[+\-\u2212]?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})")
_FLOAT: Final = re.compile(r"[+\-\u2212]?(?:[0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})?\.[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class QuestionText:
    """A question taken apart.

    Attributes:
        question: The question, without hint, image placeholder, ``Question:`` and choices.
        choices: The options' texts, in order; empty for an open question.
    """

    question: str
    choices: tuple[str, ...] = ()


def remove_placeholders(text: str) -> str:
    """The text without ``<image>``, which stands where a picture goes; the pictures are placed by the renderer."""
    return " ".join(part for part in map(str.strip, text.split(_PLACEHOLDER)) if part)


def parse_question(text: str) -> QuestionText:
    r"""Takes a question of the MathVista family apart; the hint, ``<image>`` and the choices may each be missing.

    Args:
        text: For instance ``<image>\nHint: ...\nQuestion: ...\nChoices:\n(A) ...\n(B) ...``.
    """
    text = remove_placeholders(text)
    if match := _HINT.match(text):
        text = text[match.end() :]
    if match := _QUESTION.match(text):
        text = text[match.end() :]
    for match in reversed(list(_CHOICES.finditer(text))):
        choices = parse_choices(text[match.end() :])
        if choices:
            return QuestionText(text[: match.start()].strip(), choices)
    return QuestionText(text.strip())


def parse_choices(text: str) -> tuple[str, ...]:
    """The options' texts of ``(A) ... (B) ...``, on lines of their own or on one line; empty if it is no such list.

    The letters must be in order from A, and at least two; another letter in brackets belongs to the option's text.
    """
    lined = _split_at_letters(text, r"(?:\A|\n)[^\S\n]*\({letter}\)[^\S\n]*")
    return lined or _split_at_letters(text, r"(?:\A|\s)\({letter}\)\s*")


def _split_at_letters(text: str, pattern: str) -> tuple[str, ...]:
    spans: list[tuple[int, int]] = []
    for number in range(26):
        found = re.compile(pattern.format(letter=chr(ord("A") + number))).search(text, spans[-1][1] if spans else 0)
        if found is None or (not spans and text[: found.start()].strip()):
            break
        spans.append(found.span())
    if len(spans) < 2:
        return ()
    ends = [start for start, _ in spans[1:]] + [len(text)]
    return tuple(text[start:end].strip() for (_, start), end in zip(spans, ends, strict=True))


def render_choices(question: str, choices: Sequence[str]) -> str:
    """The question with its choices below it, as the policy reads it; MathVista's form."""
    lines = [f"({chr(ord('A') + number)}) {choice}" for number, choice in enumerate(choices)]
    return "\n".join([question, "Choices:", *lines]) if lines else question


def parse_answer(text: str, choices: Sequence[str] = ()) -> str:
    """The gold answer of a response: what follows the last "The answer is" (or "Answer:"), else the whole text.

    Args:
        text: The response.
        choices: The question's options; an answer that names one by its letter becomes that letter.
    """
    answer = text.strip()
    for marker in _ANSWER.finditer(text):
        answer = text[marker.end() :].strip()
    if choices and answer not in choices and (named := _LETTER.fullmatch(answer)):
        letter, rest = named[1].upper(), named[2].strip()
        number = ord(letter) - ord("A")
        if number < len(choices) and (not rest or _fold(rest) == _fold(choices[number])):
            return letter
    return answer


def infer_answer_type(answer: str | None, choices: Sequence[str] = ()) -> AnswerType:
    """How an answer is compared, where the data does not say it: by choice, as a number, or as text.

    Only what is a number and nothing else counts as one: ``866-680-0146``, ``$38.51`` and ``10^4`` are text.
    """
    if choices:
        return AnswerType.MULTI_CHOICE
    if answer is None:
        return AnswerType.TEXT
    if _INTEGER.fullmatch(answer.strip()):
        return AnswerType.INTEGER
    return AnswerType.FLOAT if _FLOAT.fullmatch(answer.strip()) else AnswerType.TEXT


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")
