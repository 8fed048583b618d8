"""One number with its unit, in any of the spellings that models use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mstar.grading.expressions import evaluate
from mstar.grading.number_words import SCALES, parse_number_words
from mstar.grading.units import CURRENCY, canonical_unit

__all__ = ["NUMBER", "Quantity", "parse_quantity", "spell_shares"]

# A space inside a thousand separator is one only before 000: "1, 000" is a thousand, "100, 200" two numbers.
_DIGITS: Final = (
    r"(?:\d{1,3}(?:[,']\d{3})+(?!\d)|\d{1,2}(?:,\d\d)+,\d{3}(?!\d)"
    r"|\d{1,3}(?:,[ ]?000)+(?!\d)|\d{1,3}(?:[ ]\d{3})+(?![\d/])|\d+)"
)
# A number inside running text.
NUMBER: Final = (
    rf"(?:(?<![\w)\]])-\s?)?(?:{CURRENCY}\s?-?)?(?<![\w.])(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
    r"(?:e[+-]?\d{1,4}(?!\w)|\s*(?:×|\*|x)\s*10\s*(?:\^|\*\*)\s*\(?-?\d{1,4}\)?"
    r"| ?\d+\s?/\s?\d+(?!\d)|\s?/\s?\d+(?!\d))?"
    r"(?:\s?%)?"
)
_QUANTITY: Final = re.compile(
    rf"""
    (?P<sign>[+-]|minus\s|negative\s)? \s* (?P<currency>{CURRENCY})? \s* (?P<sign2>-)?
    (?:
        (?P<whole>\d{{1,30}}) \s+ (?:and\s+)? (?P<part>\d{{1,30}}) \s*/\s* (?P<parts>\d{{1,30}})
      | (?P<digits>{_DIGITS}(?:\.\d*)?|\.\d+)
        (?: e(?P<exponent>[+-]?\d{{1,4}})
          | \s*(?:×|x|\*)\s*10\s*(?:\^|\*\*)\s*\(?\s*(?P<power>[+-]?\d{{1,4}})\s*\)?
          | \s*/\s*(?P<denominator>\d{{1,30}}) )?
    )
    (?: [\s-]* (?P<scale>dozen|hundred|thousand|million|billion|trillion|lakh|crore|bn|k|(?-i:[MB])) (?!\w) )?
    (?P<unit> .*)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_PLAIN: Final = re.compile(r"[+-]?\d{1,300}")
_LEAD: Final = re.compile(
    r"(?:(?:about|approximately|approx\.?|around|roughly|nearly|almost|exactly|only|just|equal to|equals?|a total of|"
    r"the number|the value|value|number|answer|it is|it's|约|大约|等于)\s*:?\s*|[-=]>|[≈~=:\s→⇒]+)+",
    re.IGNORECASE,
)
# What may stand behind a number and leaves it the number that it is: words, none of which joins another value to it.
_WORDS: Final = re.compile(
    r"\s*[^\W\d_][^\W\d_'.-]*(?:[\s-]+[^\W\d_][^\W\d_'.-]*){0,4}\.?|[个個只条块名人岁年辆本张把种天次元]"
)
_JOINING: Final = re.compile(
    r"\b(?:or|and|to|plus|minus|times|over|per|by|not|divided|multiplied|squared|cubed|half|too|wrong|incorrect|am|pm|a\.m|p\.m|"
    r"hundred|thousand|million|billion|dozen|st|nd|rd|th|x|y|z|e|pi|sqrt)\b|[π√]",
    re.IGNORECASE,
)
_COMPOUND_UNIT: Final = re.compile(r"[a-z°%$]{1,12}(?:\^\(?-?\d\)?)?(?:\s*(?:/|per)\s*[a-z]{1,12}(?:\^\(?-?\d\)?)?)?")
_CLOSED_FORM: Final = re.compile(r"[√π^]|\*\*|sqrt|\bpi\b|\)\s*/", re.IGNORECASE)
_UNIT_TAIL: Final = re.compile(r"(.*?[\dπ)])\s*((?:[a-z°%$][a-z°\s.]*(?:\^\(?[23]\)?)?)?)", re.IGNORECASE | re.DOTALL)
_SCALES: Final = SCALES | {"m": 10**6, "b": 10**9}
_SHARE: Final = re.compile(r"\b(\d{1,9}) out of (\d{1,9})\b|\b1 in (\d{1,9})\b", re.IGNORECASE)
_MAX_DIGITS: Final = 1000
_MAX_LENGTH: Final = 1500


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it was written.

    Attributes:
        value: The number, its scale word (thousand, million) included, a percent sign not.
        unit: The canonical unit; ``%`` for percent, empty for none or an unknown noun.
        exact: False if the value is an approximation of an irrational number.
        scale: The scale word's value, 1 without one.
    """

    value: Fraction
    unit: str = ""
    exact: bool = True
    scale: int = 1


def spell_shares(text: str) -> str:
    """``3 out of 14`` as ``3/14``."""
    return _SHARE.sub(lambda share: f"{share[1] or 1}/{share[2] or share[3]}", text)


def parse_quantity(text: str) -> Quantity | None:
    """Reads a text that is one number as a whole, with its unit or a few words behind it; None for anything else.

    Args:
        text: Normalised text, LaTeX cleaned.
    """
    if _PLAIN.fullmatch(text) is not None:
        return Quantity(Fraction(int(text)))
    if len(text) > _MAX_LENGTH:
        return None
    text = _strip(text)
    match = _QUANTITY.fullmatch(text)
    if match is not None:
        unit = _read_unit(match)
        if unit is not None:
            return _build(match, unit)
    elif not any(char.isdigit() or char in "√π\\" for char in text):
        return _parse_words(text)
    return _parse_closed_form(text) if _CLOSED_FORM.search(text) and len(text) < 100 else None


def _strip(text: str) -> str:
    text = text.strip().strip("\"'`").rstrip(" \t\n.,;:!。").lstrip()
    if text[:1] == "$" and text[-1:] == "$":
        text = text.strip("$ ")
    lead = _LEAD.match(text)
    text = text[lead.end() :] if lead is not None else text
    if len(text) > 2 and text[0] in "([{" and text[-1] in ")]}" and not any(c in "()[]{}," for c in text[1:-1]):
        text = text[1:-1].strip()
    return text


def _read_unit(match: re.Match[str]) -> str | None:
    """The canonical unit behind a number, empty for harmless words, None for something that changes the number."""
    text = match["unit"]
    currency = canonical_unit(match["currency"]) if match["currency"] else ""
    rest = text.strip().replace("$", " ").strip() if match["currency"] else text.strip()
    glued = text[:1].isalpha() and text[:1].isascii()
    if rest.startswith(("(", ",")) and rest.endswith(")") and parse_number_words(rest.strip("(), ")) is not None:
        rest = ""  # 7 (seven)
    if rest in ("time", "times") and not glued:
        return ""
    if rest == "s" and glued and len(match["digits"] or "") == 4:
        return None  # the 1990s
    if not rest or rest == "$":
        return currency or canonical_unit(rest)
    unit = canonical_unit(rest.strip("()[] "))
    if unit:
        return None if glued and len(rest) == 1 and rest not in "mgslhLNJWV" else unit
    if glued:
        return None
    words = rest.strip("()[] ")
    if len(words) < 60 and _WORDS.fullmatch(words) is not None and _JOINING.search(words) is None:
        first = words.split()[0]
        return currency or ("" if first == "in" else canonical_unit(first))
    compound = "/" in words or "^" in words or " per " in words
    return "" if compound and _COMPOUND_UNIT.fullmatch(words.casefold()) is not None else None


def _build(match: re.Match[str], unit: str) -> Quantity | None:
    try:
        if match["whole"] is not None:
            value = int(match["whole"]) + Fraction(int(match["part"]), int(match["parts"]))
        else:
            digits = re.sub("[, ']", "", match["digits"]).rstrip(".")
            if len(digits) > _MAX_DIGITS:
                return None
            value = Fraction(digits)
            if match["denominator"] is not None:
                value /= int(match["denominator"])
            exponent = int(match["exponent"] or match["power"] or 0)
            if abs(exponent) > _MAX_DIGITS:
                return None
            value *= Fraction(10) ** exponent
    except ZeroDivisionError:
        return None
    scale = _SCALES[match["scale"].lower()] if match["scale"] else 1
    negative = ((match["sign"] or "+") != "+") != (match["sign2"] is not None)
    return Quantity((-value if negative else value) * scale, unit, scale=scale)


def _parse_words(text: str) -> Quantity | None:
    """``twenty-one apples``: number words, then at most four words that are none."""
    words = text.replace("(", " ").replace(")", " ").split()
    for count in range(min(len(words), 8), 0, -1):
        value = parse_number_words(" ".join(words[:count]))
        if value is not None:
            rest = " ".join(words[count:])
            unit = canonical_unit(rest)
            if (
                rest
                and not unit
                and (len(words) - count > 4 or _WORDS.fullmatch(rest) is None or _JOINING.search(rest))
            ):
                return None
            return Quantity(value, unit)
    return None


def _parse_closed_form(text: str) -> Quantity | None:
    text = text.replace("{", "(").replace("}", ")").replace("$", " ")
    currency_free = text.casefold()
    found = evaluate(currency_free)
    unit = ""
    if found is None:
        tail = _UNIT_TAIL.fullmatch(currency_free)
        if tail is None or not tail[2]:
            return None
        unit = canonical_unit(tail[2])
        if not unit and _WORDS.fullmatch(tail[2]) is None:
            return None
        if not unit and (_JOINING.search(tail[2]) is not None or len(tail[2].strip()) < 3):
            return None
        found = evaluate(tail[1])
    return None if found is None else Quantity(found[0], unit, exact=found[1])
