"""Grading by an answer marker and an exact comparison."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Final

from mstar.grading.base import Grader
from mstar.types import AnswerType, Prompt, Verdict, VerdictStatus

__all__ = ["ExactGrader"]

_MARKER: Final = re.compile(r"\banswer[^\S\n]*:|\bthe answer is\b[^\S\n]*:?", re.IGNORECASE)
_INTEGER: Final = re.compile(r"([+-]?)0*([0-9]+)")
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.([0-9]*))?|\.([0-9]+))")
_LETTER: Final = re.compile(r"\(?([a-z])[).:]?")


class ExactGrader(Grader):
    """Takes what follows the last "Answer:" (or "The answer is") on its line, and compares it exactly.

    Integers are compared as numbers, floats at the number of decimals of the gold answer, multiple choice by letter or
    by the choice's text, everything else without regard to case, spacing and a final full stop. It never guesses: a
    response without a marker has no answer.
    """

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        """Grades one response; see the interface."""
        gold = None if prompt.answer is None else _normalise(prompt.answer, prompt, prompt.answer)
        text = _extract(response)
        predicted = None if text is None else _normalise(text, prompt, prompt.answer) or _fold(text) or None
        if gold is None:
            return Verdict(False, predicted, VerdictStatus.UNGRADEABLE_GOLD)
        if predicted is None:
            return Verdict(False, None, VerdictStatus.NO_ANSWER)
        return Verdict(predicted == gold, predicted, VerdictStatus.GRADED)


def _extract(response: str) -> str | None:
    """The text after the last marker, up to the end of its line; None if there is none."""
    end = None
    for match in _MARKER.finditer(response):
        end = match.end()
    if end is None:
        return None
    return response[end:].partition("\n")[0].strip() or None


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()


def _normalise(text: str, prompt: Prompt, gold: str | None) -> str | None:
    """The one form of an answer of the prompt's type; None if the text is no such answer."""
    folded = _fold(text)
    match prompt.answer_type:
        case AnswerType.INTEGER:
            return _integer(folded)
        case AnswerType.FLOAT:
            return _decimal(folded, gold)
        case AnswerType.MULTI_CHOICE:
            return _choice(folded, [_fold(choice) for choice in prompt.choices])
        case _:
            return folded or None


def _integer(folded: str) -> str | None:
    # Strings, not int(): Python refuses to parse more than 4300 digits, and a policy may write them.
    match = _INTEGER.fullmatch(folded)
    if match is None:
        return None
    sign, digits = match.groups()
    return f"-{digits}" if sign == "-" and digits != "0" else digits


def _decimal(folded: str, gold: str | None) -> str | None:
    if _DECIMAL.fullmatch(folded) is None:
        return None
    places = None
    if gold is not None and (match := _DECIMAL.fullmatch(_fold(gold))):
        places = len(match[1] or match[2] or "")
    with localcontext() as context:
        context.prec = len(folded) + (places or 0) + 1
        number = Decimal(folded)
        number = number.normalize() if places is None else number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        return f"{number if number else abs(number):f}"


def _choice(folded: str, choices: list[str]) -> str | None:
    """The upper-case letter of the choice that the text names by its text or by its letter."""
    if choices.count(folded) == 1:
        return chr(ord("A") + choices.index(folded))
    match = _LETTER.fullmatch(folded)
    if match is None or ord(match[1]) - ord("a") >= len(choices):
        return None
    return match[1].upper()
