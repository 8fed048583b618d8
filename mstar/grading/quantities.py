"""One number with its unit, in any of the spellings that models use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mstar.grading.closed_forms import SCALES, evaluate, to_figures
from mstar.grading.units import CURRENCY, canonical_unit

# A space inside a thousand separator is one only before 000: "1, 000" is a thousand, "100, 200" two numbers.
_DIGITS: Final = (
    r"(?:\d{1,3}(?:[,']\d{3})+(?!\d)|\d{1,2}(?:,\d\d)+,\d{3}(?!\d)"
    r"|\d{1,3}(?:,[ ]000)+(?!\d)|\d{1,3}(?:[ ]\d{3})+(?![\d/])|\d{1,3}(?:\.\d{3}){2,}(?![\d.])|\d+)"
)
_QUANTITY: Final = re.compile(
    rf"""
    (?P<sign>[+-]|(?:minus|negative)\s)? \s* (?P<currency>{CURRENCY})? \s* (?P<sign2>-)?
    (?:
        (?P<whole>\d{{1,30}}) \s+ (?:and\s+)? (?P<part>\d{{1,30}}) \s*/\s* (?P<parts>\d{{1,30}})
      | (?P<digits>{_DIGITS}(?:\.\d*)?|\.\d+)
        (?: e(?P<exponent>[+-]?\d{{1,4}})
          | \s*(?:×|x|\*)\s*10\s*(?:\^|\*\*)\s*\(?\s*(?P<power>[+-]?\d{{1,4}})(?:\s*\))?
          | \s*/\s*(?P<denominator>\d{{1,30}}) )?
    )
    (?: [\s-]* (?P<scale>(?:dozen|hundred|thousand|million|billion|trillion|lakh|crore|万|亿
        |(?<=\d)k|(?-i:[kB]|(?<!\s)M)|(?(currency)[kM]|(?!)))(?!\w)|[万亿](?=[元人吨个只块米])) )?
    (?P<unit> .*)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_LEAD: Final = re.compile(
    r"(?i)^(?:(?:about|approximately|approx\.?|around|roughly|nearly|almost|exactly|only|just|equal to|equals|"
    r"a total of|the year(?=\s\d)|the number|the value|it is|it's|约|大约|等于)\s*:?\s*|-?->|[≈~=:\s→⇒]+)+"
)
# What may stand behind a number and leaves it the number that it is: words, none of which joins another value to it.
_WORDS: Final = re.compile(
    r"\s*[^\W\d_][^\W\d_'.-]*(?:[\s-]+[^\W\d_][^\W\d_'.-]*){0,3}\.?|[个個只条块名人岁年辆本张把种天次元]"
)
_JOINING: Final = re.compile(
    r"(?i)\b(?:or|and|to|plus|minus|times|over|per|by|not|divided|multiplied|squared|cubed|half|too|wrong|incorrect|am|pm|"
    r"hundred|thousand|million|billion|dozen|st|nd|rd|th|if|but|more|less|fewer|is|was|were|must|"
    r"the above|cannot|would|might|may|pi|sqrt|(?-i:(?!^[LNJWV] )[A-Zb-fi-kn-rt-z](?!-)"
    r"|^(?:(?!cc)[a-dx-z]{2}|[grv][hlt]|mn|pq|[a-z](?: [a-z])+)$))\b|[π√Δ]"
)
_CLOSED_FORM: Final = re.compile(r"[√π^(!]|\*\*|sqrt")
_UNIT_TAIL: Final = re.compile(r"(?is)(.*?(?:[\dπ)]|!(?!\s(?-i:[A-Z]))))\s*((?:[a-z°%$][a-z°\s.]*(?:\^\(?[23]\)?)?)?)")
# "3 out of 14", "1 in 6".
_SHARE: Final = re.compile(r"^(\d{1,9}) out of (\d{1,9})$|^1 in (\d{1,9})$", re.IGNORECASE)
_PI: Final = re.compile(r"(?<![a-z])pi\b", re.IGNORECASE)
# A decimal comma, where it can be nothing else.
DECIMAL_COMMA: Final = re.compile(r"^(-?(?:\d+(?=,\d{1,2}(?!\d))|0)),(\d+)(?=\s|$|%)")
_SCALES: Final = SCALES | {"k": 1000, "m": 10**6, "b": 10**9}
CAPITALS: Final = "AKCFTHM"  # units where a blank is before them: 12A is a seat
_MAX_DIGITS: Final = 1000
_MAX_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it was written, its canonical unit (``%`` for percent, empty for none), and whether it is exact."""

    value: Fraction
    unit: str = ""
    exact: bool = True


def parse_quantity(text: str) -> Quantity | None:
    """Reads a normalised text that is one number as a whole, with its unit or a few words behind it, or else None."""
    text = _strip(text)
    if len(text) > _MAX_LENGTH and not text.lstrip("+-").isdecimal():
        return None
    match = _QUANTITY.fullmatch(text if any(map(str.isdigit, text)) else to_figures(text))
    if match is not None and (unit := _read_unit(match)) is not None:
        return _build(match, unit)
    return _parse_closed_form(text) if _CLOSED_FORM.search(text) else None


def _strip(text: str) -> str:
    emphatic = "" if "!" in text.rstrip(" !.") else "!"  # 5!/3! has none
    text = _LEAD.sub("", text.strip(" \t\n\"'`").rstrip(f" \t\n.,;:。\"'`{emphatic}"))
    if len(text) > 2 and text[0] in "([{" and text[-1] in ")]}" and not any(c in "()[]{}," for c in text[1:-1]):
        text = text[1:-1].strip()
    text = _SHARE.sub(lambda share: f"{share[1] or 1}/{share[2] or share[3]}", _PI.sub("π", text))
    return DECIMAL_COMMA.sub(r"\1.\2", text)


def _read_unit(match: re.Match[str]) -> str | None:
    """The canonical unit of a number in figures, empty for none, None for something that changes the number."""
    rest = match["unit"].strip()
    again = rest[1:-1].removeprefix("or ")
    if rest[:1] == "(" and parse_quantity(again) == parse_quantity(match[0][: match.start("unit")]):
        rest = ""  # 7 (seven), 2/5 (0.4)
    words = rest.strip("()[] ")
    if match["unit"][:1].isascii() and match["unit"][:1].isalpha():
        # 250ml of water is an amount; the 1990s are no seconds.
        year = rest == "s" and len(match["digits"] or "") == 4
        if year or words in {*CAPITALS} or not canonical_unit(words.partition(" ")[0]):
            return None
    unit = "" if rest == "times" else _read_words(words)
    return canonical_unit(match["currency"]) if match["currency"] and unit is not None else unit


def _read_words(text: str) -> str | None:
    """The unit that words behind a number are, empty for harmless ones, None for ones that change the number."""
    # 5x and 5 n are products and 7a is a label, but 5g, 5 N and 5 A are amounts.
    variable = len(text) == 1 and text.isalpha() and (text.isascii() or "α" <= text < "ω")
    if variable and text not in f"mgslhLNJWV{CAPITALS}":
        return None
    unit = canonical_unit(text)
    if unit or not text:
        return unit
    if len(text) >= 60 or not _WORDS.fullmatch(text) or _JOINING.search(text):
        return None
    first = text.split()[0]
    return "" if first == "in" else canonical_unit(first)


def _build(match: re.Match[str], unit: str) -> Quantity | None:
    try:
        if match["whole"] is not None:
            value = int(match["whole"]) + Fraction(int(match["part"]), int(match["parts"]))
        else:
            digits = match["digits"].replace(",", "").replace("'", "").replace(" ", "").rstrip(".")
            if digits.count(".") > 1:
                digits = digits.replace(".", "")
            exponent = int(match["exponent"] or match["power"] or 0)
            if len(digits) > _MAX_DIGITS or abs(exponent) > _MAX_DIGITS:
                return None
            value = Fraction(digits) / int(match["denominator"] or 1) * Fraction(10) ** exponent
    except ZeroDivisionError:
        return None
    scale = _SCALES[match["scale"].lower()] if match["scale"] else 1
    negative = (match["sign"] not in (None, "+")) != (match["sign2"] is not None)
    return Quantity((-value if negative else value) * scale, unit)


def _parse_closed_form(text: str) -> Quantity | None:
    text = text.replace("{", "(").replace("}", ")").replace("$", " ").strip()
    parts = _UNIT_TAIL.fullmatch(text)
    found = evaluate((text if parts is None else parts[1]).casefold())
    words = "" if parts is None else parts[2].strip()
    # Behind a root or pi, rh is a product, and so is h.
    product = words in {*f"ghl{CAPITALS}"} or (0 < len(words) < 4 and not canonical_unit(words))
    if found is None or (unit := _read_words(words)) is None or (product and not found[1]):
        return None
    return Quantity(found[0], unit, exact=found[1])


def format_number(value: Fraction) -> str:
    """Digits with a point where the decimals end, otherwise a fraction; different numbers have different forms."""
    decimals = next((count for count in range(41) if 10**count % value.denominator == 0), None)
    if not decimals:
        return str(value)
    digits = str(abs(value.numerator) * 10**decimals // value.denominator).rjust(decimals + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-decimals]}.{digits[-decimals:]}"
