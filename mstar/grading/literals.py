"""Texts that look like arithmetic and are none: telephone numbers, dates, months, times of day, ratios."""

from __future__ import annotations

import re
from math import gcd
from typing import Final

from mstar.grading.number_words import NUMBER_WORD, parse_number_words

__all__ = ["Literal", "find_literals", "read_literal", "same_literal"]

Literal = tuple[str, ...]

_PHONE: Final = re.compile(r"(?:\+?\d{1,3}[\s.-])?\(?\d{3}\)?[\s.-]?\d{3,4}[\s.-]\d{4}|\d{3}[\s.-]\d{4}")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = r"(jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*\.?"
_MONTH_FIRST: Final = re.compile(rf"{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})")
_DAY_FIRST: Final = re.compile(rf"(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+(\d{{4}})")
_MONTH_OF_YEAR: Final = re.compile(rf"{_MONTH},?\s*(?:(\d{{4}})|'(\d{{2}}))")
_ISO: Final = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_NUMERIC_DATE: Final = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{2}|\d{4})")
_TIME: Final = re.compile(
    r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(?:([ap])\.?\s?m\.?|o'clock)?|(\d{1,2})\s*(?:([ap])\.?\s?m\.?|o'clock)"
)
# "a quarter to four", "ten past 9".
_SPOKEN_TIME: Final = re.compile(
    rf"(?:(?:a |an )?(half|quarter|{NUMBER_WORD})(?: minutes?)?|(\d{{1,2}}) minutes?) (past|after|to|before|till) "
    rf"(\d{{1,2}}|{NUMBER_WORD})"
)
_RATIO: Final = re.compile(r"(\d{1,9})\s*(?::|to)\s*(\d{1,9})")


_START: Final = re.compile(
    rf"(?<![\w.:/-])(?=[\d+(]|{_MONTH}\s|(?:a\s)?(?:half|quarter)\s|{NUMBER_WORD} (?:minutes? )?(?:past|to)\s)",
    re.IGNORECASE,
)
# "20 minutes after 9:15"
_SHIFTED: Final = re.compile(r"\b(?:minutes?|hours?) (?:after|past|before|to)\s+$", re.IGNORECASE)
_MAX_WORDS: Final = 5


def find_literals(text: str, kind: str) -> set[Literal]:
    """All such texts of one kind in running text; of those that begin at one place, the longest."""
    found = set()
    end = 0
    for start in _START.finditer(text[:500]):
        if kind == "time" and _SHIFTED.search(text, 0, start.start()):
            continue
        words = text[start.start() : start.start() + 40].split()[:_MAX_WORDS]
        for count in range(len(words) if start.start() >= end else 0, 0, -1):
            literal = read_literal(" ".join(words[:count]).rstrip(".,;!?)"))
            if literal is not None and literal[0] == kind:
                found.add(literal)
                end = start.start() + len(" ".join(words[:count]))
                break
    return found


def same_literal(gold: Literal, answer: Literal) -> bool:
    """Whether two are the same; a time with no half of the day may be in either, one after 12:59 is in the second."""
    if gold[0] == answer[0] == "time":
        if not gold[-1]:
            return gold[:-1] == answer[:-1]
        gold, answer = _on_24_hours(gold), _on_24_hours(answer)
    return gold == answer


def _on_24_hours(time: Literal) -> Literal:
    hour, half = int(time[1]), time[-1]
    if half and 1 <= hour <= 12:
        return "time", str(hour % 12 + 12 * (half == "p")), *time[2:-1], "24"
    return (*time[:-1], "24") if hour > 12 else time


def read_literal(text: str) -> Literal | None:
    """The kind and value of such a text, equal for all its spellings; None if it is none.

    A date with the month in figures keeps its order, because day and month cannot be told apart.
    """
    text = " ".join(text.casefold().split())
    if not text or len(text) > 40:
        return None
    if match := _SPOKEN_TIME.fullmatch(text):
        return _read_spoken(match[1] or match[2], match[3], match[4])
    if not any(char.isdigit() for char in text):
        return None
    if match := _ISO.fullmatch(text):
        return "date", match[1], str(int(match[2])), str(int(match[3]))
    if match := _MONTH_FIRST.fullmatch(text):
        return "date", match[3], str(_MONTHS.index(match[1][:3]) + 1), str(int(match[2]))
    if match := _DAY_FIRST.fullmatch(text):
        return "date", match[3], str(_MONTHS.index(match[2][:3]) + 1), str(int(match[1]))
    if match := _MONTH_OF_YEAR.fullmatch(text):
        return "month", (match[2] or match[3])[-2:], str(_MONTHS.index(match[1][:3]) + 1)
    if match := _NUMERIC_DATE.fullmatch(text):
        return "figures", str(int(match[1])), str(int(match[2])), match[3][-2:]
    if _PHONE.fullmatch(text):
        return "phone", re.sub(r"\D", "", text)
    if (match := _TIME.fullmatch(text)) and (match[5] or len(match[1]) < 3):
        hour, minute, half = int(match[1] or match[5]), match[2] or "00", match[4] or match[6] or ""
        return "time", str(hour), minute, match[3] or "00", half
    if match := _RATIO.fullmatch(text):
        left, right = int(match[1]), int(match[2])
        divisor = gcd(left, right) or 1
        return "ratio", str(left // divisor), str(right // divisor)
    return None


def _read_spoken(minutes: str, side: str, hour: str) -> Literal | None:
    named = {"half": 30, "quarter": 15}.get(minutes)
    past = named if named is not None else _whole(minutes)
    full = _whole(hour)
    if past is None or full is None or not 0 <= past < 60 or not 0 <= full <= 24:
        return None
    if side in ("past", "after"):
        return "time", str(full), f"{past:02}", "00", ""
    return "time", str((full - 2) % 12 + 1), f"{60 - past:02}", "00", ""


def _whole(text: str) -> int | None:
    value = int(text) if text.isdigit() else parse_number_words(text)
    return None if value is None else int(value)
