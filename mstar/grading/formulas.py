"""Formulas: which texts are ones, and whether two of them are equal, which math-verify decides in another process."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from mstar.grading.math_client import MathOutcome, ask
from mstar.grading.plain_text import clean_latex

__all__ = ["GradingTimeoutError", "are_equal", "is_formula", "same_spelling"]

_MAX_LENGTH: Final = 500
_MAX_NESTING: Final = 12
# A command, a product such as 3x, a relation, an operator between two terms, a tuple or an interval, a factorial.
_SIGN: Final = re.compile(
    r"\\[a-zA-Z{]+|(?<!\w)\d+[a-z](?!\w)|[=^√π∞≤≥<>]|(?<=[\w)}])\s*[-+*/]\s*(?=[\w(\\{])|[\[({]\s*-?[\w.\\]+\s*,|(?<=\d)!"
)
# Calculations with digits alone, such as 2019-20, are spans and numbers, and no formulas.
_MORE_THAN_DIGITS: Final = re.compile(r"[a-zA-Z√π∞!^]|[\[({]\s*-?[\w.]+\s*,")
_PROSE: Final = re.compile(
    r"(?<![\\a-zA-Z])(?!sin|cos|tan|sec|csc|cot|log|exp|sqrt|and|or\b|cm|mm|km|inf|[pbvBV]?matrix|cases|array)[a-zA-Z]{3,}"
)
# Powers of powers, long exponents and factorials of more than two digits grow beyond any memory when they are parsed.
_BOMB: Final = re.compile(
    r"(?:\^|\*\*)[^-+=,;\s]{0,40}?(?:\^|\*\*)|(?:\^|\*\*)\s*[({]*-?\d{4,}|\d{30,}|\d{3,}\s*\)?\s*!|!\s*\)?\s*!|\)\s*!"
)
_BARE_ROOT: Final = re.compile(r"√\(([^()]*)\)|√(\w+)")
_SPELLED: Final = {
    "π": r"\pi ",
    "×": r"\times ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "°": r"^\circ ",
    "**": "^",
}


class GradingTimeoutError(Exception):
    """math-verify was stopped twice: too slow, or too much memory."""


def is_formula(text: str) -> bool:
    """Whether a text has more of a formula than a number, and is small enough to be parsed."""
    return bool(_SIGN.search(text) and _MORE_THAN_DIGITS.search(text)) and _is_readable(text)


def are_equal(gold: str, answer: str) -> bool:
    """Whether an answer, a formula or a number, equals a formula.

    Raises:
        GradingTimeoutError: math-verify did not come to an end.
    """
    if same_spelling(gold) == same_spelling(answer):
        return True
    if not _is_readable(answer) or not any(char.isalnum() for char in answer):
        return False
    outcome = _ask(_as_latex(gold), _as_latex(answer))
    if outcome is MathOutcome.STOPPED:
        raise GradingTimeoutError
    return outcome is MathOutcome.EQUAL


def same_spelling(text: str) -> str:
    """One spelling for formulas that differ in blanks, brackets around single signs, and LaTeX's own spellings."""
    return "".join(clean_latex(text).split()).strip("$.").replace("**", "^")


def _is_readable(text: str) -> bool:
    if not text or len(text) > _MAX_LENGTH or _PROSE.search(text) or _BOMB.search(text):
        return False
    depth = deepest = 0
    for char in text:
        # An interval may open with one bracket and close with another.
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest <= _MAX_NESTING and depth == 0


@lru_cache(maxsize=4096)
def _ask(gold: str, answer: str) -> MathOutcome:
    return ask(gold, answer)


def _as_latex(text: str) -> str:
    text = _BARE_ROOT.sub(lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text.replace("$", " ").strip())
    for spelling, latex in _SPELLED.items():
        text = text.replace(spelling, latex)
    return text
