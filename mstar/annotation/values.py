"""The numbers that a reasoning step states, and other numbers that could stand in their place."""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from typing import Final

# Digits with their thousands and decimals. Signs, per cent and units stand outside, so they stay as they are. What is
# glued to a name (x1, H2O), an exponent, a denominator, an ordinal or "3D" is no value of its own, nor is an
# endless run of digits.
_NUMBER: Final = re.compile(
    r"(?<![\w.\\/^#])(?<![\^_}]\{)\d{1,15}+(?:,\d{3}(?!\d))*+(?:\.\d{1,15}+)?+(?!\d|\.\d|(?:st|nd|rd|th|D)\b)"
)
# Not "one", which is mostly a pronoun ("the red one").
_WORDS: Final = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORD: Final = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
# Numbers that name a thing or a place in the response, and say nothing of the picture.
_ITEM: Final = re.compile(r"\s*[(\[*#]*\d{1,2}[.):\]]")
_NAMED: Final = re.compile(
    r"\b(?:step|fig(?:ure)?|table|question|part|case|option|choice|image|picture|panel|eq(?:uation)?|row|column|line"
    r"|angle|point|no)s?\.?\s*[(#]?$",
    re.IGNORECASE,
)
# In charts a year says which column is meant: the value of another year may well be right.
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_UNIT: Final = re.compile(r"\s?(?:%|°|(?:[mck]?m|k?g|m?l|s|min|h)\b)", re.IGNORECASE)
_REACH: Final = 3
_TRIES: Final = 16


def find_values(step: str) -> list[re.Match[str]]:
    """The values that a step states, in order: numbers, and the words from two to twelve.

    Left out are numbers that name something: of steps and list items ("Step 2:", "1."), figures, options, angles,
    years, and whatever is part of a name, an exponent or a denominator.
    """
    item = _ITEM.match(step)
    found = [match for match in _NUMBER.finditer(step) if not (item and match.start() < item.end())]
    found = [match for match in found if not _NAMED.search(step[: match.start()]) and not _is_year(step, match)]
    return sorted([*found, *_WORD.finditer(step)], key=re.Match.start)


def other_value(value: str, rng: random.Random, avoid: Collection[str] = ()) -> str | None:
    """Another value near one, written as it is: as many digits and decimals, its zeros, thousands and capitals.

    It differs by at most 3 in the last place, or by a fifth if that is more. An integer of three or more digits that
    ends in zeros gets another that does, as readings of an axis have. None if there is none that is not to be avoided.
    """
    if value.lower() in _WORDS:
        place = _WORDS.index(value.lower())
        near = [*_WORDS[max(0, place - _REACH) : place], *_WORDS[place + 1 : place + _REACH + 1]]
        words = [word.capitalize() if value[0].isupper() else word for word in near]
        allowed = [word for word in words if word not in avoid and word.lower() not in avoid]
        return rng.choice(allowed) if allowed else None
    whole, dot, decimals = value.partition(".")
    digits = whole.replace(",", "") + decimals
    kept = len(digits) - len(digits.rstrip("0")) if int(digits) >= 100 else 0
    stem = digits[: len(digits) - kept]
    first = 10 ** (len(stem) - 1) if stem[0] != "0" else 1
    middle, last = int(stem), 10 ** len(stem) - 1
    reach = max(_REACH, middle // 5)
    span = range(max(first, middle - reach), min(last, middle + reach) + 1)
    for _ in range(_TRIES):
        drawn = str(rng.choice(span)).zfill(len(stem)) + "0" * kept
        front = drawn[: len(drawn) - len(decimals)]
        written = (f"{int(front):,}" if "," in whole else front) + dot + drawn[len(drawn) - len(decimals) :]
        if written != value and written not in avoid:
            return written
    return None


def _is_year(step: str, match: re.Match[str]) -> bool:
    return _YEAR.fullmatch(match[0]) is not None and not _UNIT.match(step, match.end())
