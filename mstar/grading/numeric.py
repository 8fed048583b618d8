"""Integer and float answers: when two numbers are the same answer."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction
from typing import Final

from mstar.grading.latex import clean_latex, strip_dollars
from mstar.grading.normalisation import normalise
from mstar.grading.number_words import DIGIT_WORDS, NUMBER_WORD, parse_number_words
from mstar.grading.quantities import NUMBER, Quantity, parse_quantity, spell_shares
from mstar.grading.reader import REFUSED, AnswerReader
from mstar.grading.sentences import without_explanation
from mstar.grading.statements import asked_values, find_quantities, state_quantity
from mstar.grading.units import canonical_unit, conversion_factor

__all__ = ["NumberReader", "format_number"]

_SQUARE_ROOT: Final = re.compile(r"\b(?:the\s+)?square root of\s+(\d+)", re.IGNORECASE)
_UNITS_ASKED: Final = (
    re.compile(r"\(\s*units?\s*:\s*([^()]{1,20})\)", re.IGNORECASE),
    re.compile(
        r"\bin ((?:square |cubic )?(?:kilo|centi|milli)?met(?:er|re)s|(?:kilo)?grams|minutes|hours|seconds|km/h|m/s|"
        r"[ck]?m[²³]|[cmk]m|kg)(?=\s*(?:[?.,)]|$))",
        re.IGNORECASE,
    ),
    re.compile(
        r"\bhow many (cents|dollars|seconds|minutes|hours|days|weeks|(?:kilo|centi|milli)?met(?:er|re)s|(?:kilo)?grams"
        r"|(?:milli)?lit(?:er|re)s)\b",
        re.IGNORECASE,
    ),
)
_NAMED: Final = re.compile(r"(?!(?:assume|suppose|let|if|when|given|say)\b)\\?[A-Za-z∠△ ]{1,20}[=≈]", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"\b(?:value of|[Ff]ind|[Ss]olve for|[Dd]etermine|[Ww]hat is)\s+\$?([a-z])\$?(?![\w'])")
_ASSIGNED: Final = re.compile(r"(?<![\w^])[a-z]\s*=\s*-?\d")
_NEGATIVE: Final = re.compile(r"\bnegative\s+(?=[\d.])", re.IGNORECASE)
# Numbers that can only be European: a decimal comma, or points between groups of three digits.
_DECIMAL_COMMA: Final = re.compile(
    r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+|\d+),(\d{1,2}|\d{4,15}|(?<=\b0,)\d{3})(?![\d,%]|\.\d|\s*,|\s+and\b)"
)
_POINT_GROUPS: Final = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3}){2,})(?![\d,]|\.\d)")
_POINT_GROUP: Final = re.compile(r"(?<![\d.,$])([1-9]\d{0,2})\.(\d{3})(?<!000)(?![\d,.%])")
_MINUTES_OF_ARC: Final = re.compile(r"(\d+)\s*°\s*(\d{1,2})\s*'(?!')(?:\s*(\d{1,2})\s*(?:\"|''))?")
_SPOKEN_POINT: Final = re.compile(
    rf"({NUMBER_WORD})\s+point\s+((?:zero|oh|{'|'.join(DIGIT_WORDS)})(?:\s+(?:zero|oh|{'|'.join(DIGIT_WORDS)}))*)\b",
    re.IGNORECASE,
)
_CODE: Final = re.compile(r"__\w+__\s*[(.]|\b(?:eval|exec|system)\s*\(")
_ONE_OF: Final = re.compile(r"\bone of\b", re.IGNORECASE)
_NO_ONE: Final = re.compile(r"^\W*(?:no one|nobody)\b", re.IGNORECASE)
_DURATION: Final = re.compile(
    r"\b(\d{1,3})\s*(?:hours?|hrs?|h),?\s*(?:and\s*)?(\d{1,2})\s*(?:minutes?|mins?)\b", re.IGNORECASE
)
_MIDDLE_DOT: Final = re.compile(r"(?<=\d)\s*·\s*(?=10\^)")
_AND_A_HALF: Final = re.compile(r"\b(\d+) and (?:a|one) half\b", re.IGNORECASE)
_YEAR: Final = re.compile(r"(?<![\d.,$€£-])(?:1[0-9]|20)\d\d(?![\w%]|[.,]\d|\s*(?:dollars|people|units))")
_MINUS_WORDS: Final = re.compile(
    rf"(^|\b(?:is|was|be|shows?|reads?|at|to|of|answer:?)\s+)(?:minus|negative)\s+({NUMBER_WORD}|\d[\d.,]*\d|\d)"
    r"(?!\s+(?:half|halves|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|and a))",
    re.IGNORECASE,
)
# "十二名", "125万".
_CHINESE_COUNT: Final = re.compile(
    "[零一二两三四五六七八九十百千万亿]{1,12}(?=[个個只条块名人岁年辆本张把种天次元度]|$)"
)
_CHINESE_FRACTION: Final = re.compile("([一二两三四五六七八九十百]{1,5})分之([一二两三四五六七八九十百]{1,5})")
_CHINESE_PERCENT: Final = re.compile(r"百分之([一二两三四五六七八九十百零]{1,5}|\d+(?:\.\d+)?)")
_BELOW_ZERO: Final = re.compile(r"零下\s*(?=\d)")
_CHINESE_SCALE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([万萬亿億])")
_CHINESE_SCALES: Final = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HALF_DOZEN: Final = re.compile(r"\bhalf (?:a )?dozen\b", re.IGNORECASE)
_ASKS_YEAR: Final = re.compile(
    r"\b(?:(?:which|what)(?: \w+)? year\b|year (?:did|does|was|were|is|had|has|shows?)\b)", re.IGNORECASE
)
_FROM: Final = re.compile(r"\b(?:from|since|until|till|before|after|to|through)\s+$", re.IGNORECASE)
_ASKED_SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_DOLLARS_AND_CENTS: Final = re.compile(r"\b(\d+) dollars? and (\d{1,2}) cents?\b", re.IGNORECASE)
# "It cannot be told exactly, but it is about 5."
_STILL: Final = re.compile(r"\b(?:but(?! if)|however|although|estimat\w*|assum\w*)\b", re.IGNORECASE)
_UNDETERMINED: Final = re.compile(
    r"\b(?:cannot|can't|can not|could not|couldn't|not possible to|impossible to|unable to|not able to)\s+(?:be\s+)?"
    r"(?:accurately\s+|reliably\s+|exactly\s+|actually\s+)?"
    r"(?:determin|answer|calculat|comput|provid|tell|say|know|giv|infer|identif|see\b|view\b|access|help|read|make out"
    r"|estimat)\w*"
    r"|\b(?:does|do|did) not (?:provide|contain|show|include|give|specify|mention)\b"
    r"|\bif you (?:tell|provide|give|share)\b|\b(?:no|not enough|insufficient)"
    r" (?:clear |specific )?(?:information|data)\b(?![^.]*\bbut\b)",
    re.IGNORECASE,
)
_MAX_LENGTH: Final = 1500


class NumberReader(AnswerReader):
    """Reads answers that are one number.

    Args:
        answer: The gold answer, or None.
        whole: Whether it must be a whole number.
        precision: Decimals that count; None compares the exact values.
        unit: The unit that the question asks for, or None.
        question: The question, for a unit such as ``(Unit: $)``.
    """

    def __init__(
        self, answer: str | None, whole: bool, precision: int | None, unit: str | None, question: str = ""
    ) -> None:
        asked = unit or next((match[1] for ask in _UNITS_ASKED if (match := ask.search(question))), "")
        gold = None if answer is None else parse_quantity(_clean(answer))
        if gold is not None and whole and gold.value.denominator != 1:
            gold = None
        self._precision = precision
        self._whole = whole
        self._gold = gold
        self._unit = canonical_unit(normalise(asked)) or (gold.unit if gold is not None else "")
        self._asked = f"{asked} {question}".casefold()
        self._question = question
        named = _VARIABLE.search(question)
        self._variable = re.compile(rf"(?<![A-Za-z]){named[1]}(?![A-Za-z])") if named is not None else None
        self._assigned = (
            re.compile(rf"(?<![\w^]){named[1]}\s*=\s*({NUMBER})(?!\s*[-+*/^\w])") if named is not None else None
        )
        self._given = asked_values(normalise(question))
        self._asks_year = _ASKS_YEAR.search(question) is not None
        self._counts = "how many" in self._asked or "number of" in self._asked
        self._value = None if gold is None else self._round(gold)
        self.gold = None if self._value is None else format_number(self._value)

    def read(self, span: str) -> str | None:
        """The number that a sentence states; see the interface."""
        text = _clean(span)
        if (undetermined := _UNDETERMINED.search(text)) is not None and not _STILL.search(text, undetermined.end()):
            return REFUSED
        if _CODE.search(text):
            return REFUSED
        # 8.400 is no whole number, unless its point groups the thousands.
        text = _POINT_GROUP.sub(r"\1\2", text) if self._whole else spell_shares(text)
        if self._counts:
            text = _NO_ONE.sub("0 people", _ONE_OF.sub("1 of", text))
        found = state_quantity(text, self._question)
        if self._assigned is not None and len(_ASSIGNED.findall(text)) > 1:
            # "x = 64, y = 26"
            values = {parse_quantity(value[1]) for value in self._assigned.finditer(text)}
            found = values.pop() if len(values) == 1 else found
        if "percent" in self._asked:
            # The one number that is a percentage is what the question asks for.
            shares = {value.value: value for _, _, value in find_quantities(text) if value.unit == "%"}
            shares = {number: share for number, share in shares.items() if number not in self._given}
            found = shares.popitem()[1] if len(shares) == 1 and found != REFUSED else found
        if self._asks_year and not (isinstance(found, Quantity) and found.value >= 1000):
            stated = without_explanation(text)
            years = set(_YEAR.findall(stated))
            if len(years) > 1:
                years = {year[0] for year in _YEAR.finditer(stated) if not _FROM.search(stated, 0, year.start())}
            found = Quantity(Fraction(years.pop())) if len(years) == 1 else found
        if found == REFUSED and self._variable is not None and self._variable.search(text) is None:
            return None  # "the three angles are 60°, 48° and 72°" says nothing of x
        return found if found is None or isinstance(found, str) else self._canonical(found)

    def read_alone(self, span: str) -> str | None:
        """The number, where the span is nothing else."""
        text = _clean(span)
        found = parse_quantity(text)
        if found is None and (match := _NAMED.match(text)) is not None and len(text) < 100:
            found = parse_quantity(text[match.end() :])
        return None if found is None else self._canonical(found)

    def _canonical(self, found: Quantity) -> str:
        if found.unit == "°" and self._unit.startswith("°"):
            found = replace(found, unit=self._unit)
        values = [self._round(found)]
        if found.unit and self._unit and found.unit != self._unit:
            factor = conversion_factor(found.unit, self._unit)
            if factor is not None:
                values = [self._round(Quantity(found.value * factor, exact=found.exact))]
            elif found.unit == "%" and self._gold is not None:
                values = [self._round(Quantity(found.value / 100))]
            else:
                return f"{format_number(values[0])} {found.unit}"
        elif found.unit == "%" and self._counts and "percent" not in self._asked:
            return f"{format_number(values[0])} %"
        elif found.unit == "%" and self._unit != "%":
            share = self._round(Quantity(found.value / 100))
            # Of a share below one, 0.25 % is no other way to write 0.25.
            shares = self._gold is not None and 0 < abs(self._gold.value) < 1 and "percent" not in self._asked
            values = [share] if shares else [*values, share]
        elif found.unit == "°" and not self._unit and self._gold is not None and not self._gold.exact:
            values.append(self._round(Quantity(found.value * Fraction(math.pi) / 180, exact=False)))
        elif self._gold is not None and self._gold.unit == "%" and not found.unit:
            values.append(self._round(Quantity(found.value * 100, exact=found.exact)))
        if found.scale != 1:
            scales = [scale for word, scale in _ASKED_SCALES.items() if word in self._asked]
            values += [self._round(Quantity(found.value / scale)) for scale in scales]
        if self._value is not None and self.gold is not None:
            exact = found.exact and (self._gold is None or self._gold.exact) and _is_decimal(self._value)
            tolerance = 0 if exact else abs(self._value) / 10**9
            if any(abs(value - self._value) <= tolerance for value in values):
                return self.gold
        return format_number(values[0])

    def _round(self, quantity: Quantity) -> Fraction:
        """Half away from zero: what one learns at school, and what questions ask for."""
        if self._precision is None:
            return quantity.value
        shifted = abs(quantity.value) * 10**self._precision
        rounded = Fraction(int(shifted + Fraction(1, 2)), 10**self._precision)
        return -rounded if quantity.value < 0 else rounded


def _is_decimal(value: Fraction) -> bool:
    """Whether the value can be written with finitely many decimals."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def format_number(value: Fraction) -> str:
    """Digits with a point where the decimals end, otherwise a fraction; 12 digits of one with no short form."""
    if value.denominator == 1:
        return str(value.numerator)
    if value.denominator.bit_length() > 40:
        return f"{float(value):.10g}" if abs(value) < 10**300 else "large"
    rest, decimals = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest //= prime
            count += 1
        decimals = max(decimals, count)
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**decimals // value.denominator).rjust(decimals + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-decimals]}.{digits[-decimals:]}"


def _clean(span: str) -> str:
    text = _NEGATIVE.sub(
        "-", _SQUARE_ROOT.sub(r"√(\1)", strip_dollars(clean_latex(normalise(span[:_MAX_LENGTH]))))
    ).strip()
    text = _HALF_DOZEN.sub("6", _SPOKEN_POINT.sub(_write_point, text))
    text = _MINUTES_OF_ARC.sub(_write_degrees, text)
    text = _MINUS_WORDS.sub(_negate, text)
    if not text.isascii():
        text = _CHINESE_PERCENT.sub(lambda share: f"{parse_number_words(share[1]) or share[1]}%", text)
        text = _CHINESE_FRACTION.sub(_chinese_fraction, _BELOW_ZERO.sub("-", text))
        text = _CHINESE_COUNT.sub(lambda number: str(parse_number_words(number[0]) or number[0]), text)
        text = _CHINESE_SCALE.sub(lambda number: str(Fraction(number[1]) * _CHINESE_SCALES[number[2]]), text)
    text = _DURATION.sub(lambda time: f"{60 * int(time[1]) + int(time[2])} minutes", text)
    text = _MIDDLE_DOT.sub("×", text)
    text = _AND_A_HALF.sub(r"\1 1/2", text)
    text = _DOLLARS_AND_CENTS.sub(lambda sum_: f"${sum_[1]}.{sum_[2]:0>2}", text)
    text = _DECIMAL_COMMA.sub(lambda number: f"{number[1].replace('.', '')}.{number[2]}", text)
    return _POINT_GROUPS.sub(lambda number: number[1].replace(".", ""), text)


def _negate(found: re.Match[str]) -> str:
    if found[2][0].isdigit():
        return f"{found[1]}-{found[2]}"
    value = parse_number_words(found[2])
    return found[0] if value is None else f"{found[1]}-{value}"


def _chinese_fraction(found: re.Match[str]) -> str:
    below, above = (parse_number_words(part) for part in found.groups())
    return f"{above}/{below}" if above and below else found[0]


def _write_point(found: re.Match[str]) -> str:
    whole = parse_number_words(found[1])
    digits = "".join("0" if word == "oh" else str(parse_number_words(word)) for word in found[2].casefold().split())
    return found[0] if whole is None else f"{whole}.{digits}"


def _write_degrees(found: re.Match[str]) -> str:
    """Minutes and seconds of arc as decimals of a degree."""
    value = int(found[1]) + Fraction(int(found[2]), 60) + Fraction(int(found[3] or 0), 3600)
    return f"{float(value):.6g}°"
