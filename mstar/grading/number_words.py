"""Numbers in words: ``twenty-one``, ``three and a half``, ``two thirds``, ``十二``."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

__all__ = ["DIGIT_WORDS", "NUMBER_WORD", "SCALES", "parse_number_words"]

# fmt: off
_BELOW_TWENTY: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
DIGIT_WORDS: Final = _BELOW_TWENTY[:10]
_TENS_FROM_TWENTY: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
_UNITS: Final = {word: value for value, word in enumerate(_BELOW_TWENTY)}
_TENS: Final = {word: 10 * value for value, word in enumerate(_TENS_FROM_TWENTY, start=2)}
SCALES: Final = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "k": 1000,
    "lakh": 10**5,
    "crore": 10**7,
    "bn": 10**9,
}
_PARTS: Final = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "fifteenth": 15, "sixteenth": 16, "twentieth": 20,
    "hundredth": 100,
}  # fmt: skip
_ALONE: Final = {"none": 0}
_SMALL: Final = _UNITS | _TENS
_CHINESE: Final = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"两": 2}
_CHINESE_SCALES: Final = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}

_FIRST: Final = "|".join([*_UNITS, *_TENS])
_NEXT: Final = "|".join([_FIRST, *(name for name in SCALES if len(name) > 2)])
# One word, or the words of one number.
NUMBER_WORD: Final = rf"\b(?:{_FIRST})(?:[\s-]+(?:and[\s-]+)?(?:{_NEXT}))*\b"


def parse_number_words(text: str) -> Fraction | None:
    """The value of a number written in English words or short Chinese numerals; None for anything else."""
    words = text.casefold().replace("-", " ").split()
    if not words or len(words) > 12:
        return None
    negative = words[0] in ("minus", "negative")
    words = words[negative:]
    value = _parse(words)
    return None if value is None else -value if negative else value


def _parse(words: list[str]) -> Fraction | None:
    if len(words) == 1:
        word = words[0]
        if word in _ALONE:
            return Fraction(_ALONE[word])
        if word in _SMALL:
            return Fraction(_SMALL[word])
        if not word.isascii():
            return _chinese(word)
    if not words:
        return None
    last = words[-1]
    if last in SCALES and len(words) > 1 and words[-2].removesuffix("s") in _PARTS:
        value = _parse(words[:-1])  # one and a half million
        return None if value is None else value * SCALES[last]
    part = _PARTS.get(last) or _PARTS.get(last.removesuffix("s"))
    if part is not None:
        return _fraction(words[:-1], part)
    return _whole(words)


def _fraction(before: list[str], part: int) -> Fraction | None:
    """``[three and] a half``, ``two thirds``."""
    if before in ([], ["a"], ["one"]):
        return Fraction(1, part)
    if "and" in before:
        cut = len(before) - 1 - before[::-1].index("and")
        whole, numerator = _whole(before[:cut]), _fraction(before[cut + 1 :], part)
        return None if whole is None or numerator is None else whole + numerator
    numerator = _whole(before)
    return None if numerator is None else numerator / part


def _whole(words: list[str]) -> Fraction | None:
    total = group = 0
    previous = 0
    seen = False
    for word in words:
        if word in ("and", "a") and (seen or word == "a"):
            continue
        if word in _SMALL:
            # "twenty one" adds up; "one two" is no number.
            if previous and not (previous >= 20 and previous % 10 == 0 and 0 < _SMALL[word] < 10):
                return None
            group += _SMALL[word]
            previous = _SMALL[word] or 1
        elif word in ("hundred", "dozen"):
            group = (group or 1) * SCALES[word]
            previous = 0
        elif word in SCALES:
            total += (group or 1) * SCALES[word]
            group = previous = 0
        else:
            return None
        seen = True
    return Fraction(total + group) if seen else None


def _chinese(word: str) -> Fraction | None:
    """Whole numbers as they are spoken: each scale counts what stands before it, and 万 all of that."""
    total = section = digit = 0
    for char in word:
        if char in _CHINESE:
            digit = _CHINESE[char]
        elif char in _CHINESE_SCALES:
            scale = _CHINESE_SCALES[char]
            if scale < 10**4:
                section += (digit or 1) * scale
            else:
                total = (total + section + digit) * scale
                section = 0
            digit = 0
        else:
            return None
    return Fraction(total + section + digit)
