"""Numbers of a sentence that belong together by arithmetic: rounded again, worked out, or added up."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from mstar.grading.number_words import NUMBER_WORD
from mstar.grading.quantities import NUMBER, Quantity, parse_quantity

__all__ = ["evaluate_alternative", "find_total", "is_rounded_again"]

_NUMBER: Final = re.compile(NUMBER, re.IGNORECASE)
_WORDS: Final = re.compile(NUMBER_WORD, re.IGNORECASE)
_ROUNDED: Final = re.compile(r"(?:about|approximately|approx|roughly|around|nearly|≈|~)\W*$", re.IGNORECASE)
_EVALUATED: Final = re.compile(
    rf"({NUMBER})\s*([-+×*]|plus|minus|times)\s*({NUMBER}),?\s+or\s+({NUMBER})", re.IGNORECASE
)
_PARTS: Final = re.compile(r"\band\b|[:+(]", re.IGNORECASE)


def is_rounded_again(stated: str, numbers: list[tuple[int, int, Quantity]]) -> bool:
    """Whether a sentence gives a number, and then the same one roughly: "3/14, or about 0.21"."""
    (_, end, first), (start, _, second), *more = numbers
    close = abs(first.value - second.value) <= abs(first.value) / 50
    return not more and close and _ROUNDED.search(stated, end, start) is not None


def evaluate_alternative(stated: str) -> Quantity | None:
    """The value in "8 times 8, or 64", where it is right."""
    match = _EVALUATED.search(stated)
    values = [parse_quantity(match[i]) for i in (1, 3, 4)] if match is not None else []
    if match is None or any(value is None for value in values):
        return None
    first, second, result = (value.value for value in values if value is not None)
    sign = match[2]
    if sign in ("+", "plus"):
        computed = first + second
    elif sign in ("-", "minus"):
        computed = first - second
    else:
        computed = first * second
    return values[2] if computed == result else None


def find_total(stated: str) -> Quantity | None:
    """The total, where a sentence gives one and what it is made of: "7 people, 4 men and 3 women"."""
    spans = sorted([m.span() for m in _NUMBER.finditer(stated)] + [m.span() for m in _WORDS.finditer(stated)])
    values = [value for start, end in spans if (value := parse_quantity(stated[start:end].strip())) is not None]
    if not 3 <= len(values) == len(spans) <= 8 or not _PARTS.search(stated):
        return None
    total = sum((value.value for value in values), Fraction(0))
    ends = {value.value: value for value in (values[0], values[-1]) if 2 * value.value == total > 0}
    return ends.popitem()[1] if len(ends) == 1 else None
