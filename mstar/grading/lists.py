"""List answers such as ``[2014, 2016]``: items in order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from mstar.grading.clauses import answering_clauses
from mstar.grading.latex import clean_latex
from mstar.grading.normalisation import fold, normalise
from mstar.grading.numeric import format_number
from mstar.grading.quantities import parse_quantity
from mstar.grading.reader import REFUSED, AnswerReader
from mstar.grading.sentences import without_explanation
from mstar.grading.statements import find_quantities

__all__ = ["ListReader"]

_BRACKETED: Final = re.compile(r"[\[({]([^\[\](){}]+)[\])}]")
_SEPARATOR: Final = re.compile(r"\s*(?:[,;、]\s*(?:and\b)?|\band\b|和|与|\n\s*(?:[-*•]\s+|\d\d?[.)]\s+)?)\s*")
_OPERATOR: Final = re.compile(r"\s*(?:[+*/×<>≤≥^:=]|<=|>=)\s*")
_ROOTS: Final = re.compile(r"\bor(?=\s+[a-z]\s*=)")
_BULLET: Final = re.compile(r"[-*•]\s+|\d\d?[.)]\s+(?=[^\n]*\n)")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WIDE_SEPARATOR: Final = re.compile(r",\s|;|\band\b")
_OR: Final = re.compile(r"\b(?:or|either|maybe|not)\b|或", re.IGNORECASE)
_LIMIT: Final = re.compile(
    r"\b(?:exceed(?:ed|s|ing)?|(?:more|less|fewer|greater|higher|lower) than|above|below|over)\s+$"
)
# Items below each other, behind a line that ends with a colon.
_LISTED: Final = re.compile(r":\s*((?:\n\s*[-*•]\s+[^\n]{1,60}){2,})\s*$")
_ITEM: Final = re.compile(r"\n\s*[-*•]\s+([^\n]+)")
# "x_1 = -2, x_2 = 7"
_ASSIGNED: Final = re.compile(r"(?<![A-Za-z^\d)])[A-Za-z](?:_?\{?\d\}?)?\s*=\s*(?=-?\d)")
# A single number is a list of one only where it is called the solution.
_SOLUTION: Final = re.compile(r"\b(?:answer|solution)s? (?:is|are)\b", re.IGNORECASE)
_NOT_THIS: Final = re.compile(r"[,;]?\s*\(?\bnot\s*[\[(][^\[\]()]*[\])]\)?")
_LEAD: Final = re.compile(r"^.*\b(?:is|are|between|from|:|be)\s+", re.IGNORECASE)


class ListReader(AnswerReader):
    """Reads answers that are several values in an order.

    Args:
        answer: The gold answer, ``[a, b]`` or ``a, b``, or None.
    """

    def __init__(self, answer: str | None) -> None:
        items = [] if answer is None else _split(_clean(answer))
        self._numeric = bool(items) and all(parse_quantity(item) is not None for item in items)
        self._size = len(items)
        self.gold = _format(items) if len(items) > 1 or (items and answer is not None and "[" in answer) else None

    def read(self, span: str) -> str | None:
        """The values that a sentence states; see the interface."""
        text = _clean(span)
        text = _NOT_THIS.sub("", text)
        brackets = list(_BRACKETED.finditer(text))
        if brackets:
            items = _split(brackets[-1][0])
            if len(items) > 1 or self._size == 1:
                return _format(items)
        text = _ASSIGNED.sub("", _ROOTS.sub("and", text))
        clauses = answering_clauses(without_explanation(text))
        stated = next((clause for clause in clauses if len(find_quantities(clause)) > 1), clauses[-1])
        if _OR.search(stated):
            return REFUSED
        if self._numeric or self.gold is None:
            found = find_quantities(stated)
            if any(_OPERATOR.fullmatch(stated, one[1], other[0]) for one, other in pairwise(found)):
                return REFUSED
            numbers = [value for start, _, value in found if not _LIMIT.search(stated, 0, start)]
            if len(numbers) > 1 or (numbers and _SOLUTION.search(stated)):
                return _join(format_number(value.value) for value in numbers)
            if self._numeric:
                return None
        items = _split(_LEAD.sub("", stated))
        return _format(items) if len(items) > 1 else None

    def read_alone(self, span: str) -> str | None:
        """The values, where the span is nothing but a list."""
        text = _clean(span)
        if (listed := _LISTED.search(text)) is not None and "[" not in text:
            text = ", ".join(_ITEM.findall(listed[1]))
        if len(text) > 500 or _OR.search(text) or '":' in text:
            return None
        items = _split(text)
        numeric = all(parse_quantity(item) is not None for item in items)
        bracketed = text[:1] in "[({" and text[-1:] in "])}" and len(_BRACKETED.findall(text)) < 2
        if len(items) > 1 and (numeric or bracketed):
            return _format(items)
        return _format(items) if bracketed and items and self._size == 1 else None


def _clean(text: str) -> str:
    return clean_latex(normalise(text[:1500])).strip().strip("`\"'. ")


def _split(text: str) -> list[str]:
    text = (_BULLET.sub("", text.strip(), count=1) if _BULLET.match(text.strip()) else text.strip()).strip("[](){}\\")
    if _WIDE_SEPARATOR.search(text):
        text = _THOUSANDS.sub("", text)
    return [item.strip(" \"'") for item in _SEPARATOR.split(text) if item.strip(" \"'")]


def _format(items: list[str]) -> str:
    return _join(
        fold(item) if (number := parse_quantity(item)) is None else format_number(number.value) for item in items
    )


def _join(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"
