"""Integer and float answers: which number a sentence names, and when two numbers are the same answer."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from mstar.grading.extraction import REFUSED, AnswerReader
from mstar.grading.latex import clean_latex
from mstar.grading.normalisation import normalise
from mstar.grading.number_words import NUMBER_WORD
from mstar.grading.quantities import NUMBER, Quantity, parse_quantity
from mstar.grading.units import canonical_unit, conversion_factor

__all__ = ["EXPLANATION", "NumberReader", "find_quantities", "format_number"]

# Where a sentence stops to state its answer and begins to say why.
EXPLANATION: Final = re.compile(
    r",?\s*(?:\b(?:because|since|given that|due to|which|where|whereas|while|so that|in order|i\.e\.|rather than|instead of|unlike|"
    r"based on|according to|assuming|meaning|considering|obtained by|calculated|by (?:\w+ing)|if)\b"
    r"|\bas (?=(?:the|it|we|there|shown|each|both|all|they|this|that|seen|indicated|a|an|you)\b)|因为|由于)",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(NUMBER, re.IGNORECASE)
_WORDS: Final = re.compile(NUMBER_WORD, re.IGNORECASE)
_EQUALS: Final = re.compile(
    r"[=≈]|(?<!\d)\s*:\s|\b(?:is|are|was|were|be|equals?|equal to|becomes|gives|yields|makes|measures|comes to|total(?:s|ing)?|answer)\b"
    r"(?:\s+(?:about|approximately|approx\.?|around|roughly|exactly|equal to|only|simply|therefore|thus|a total of))*\s*:?|是|为|等于",
    re.IGNORECASE,
)
_STATES: Final = re.compile(
    r"\b(?:there (?:are|is|were|will be)|has|have|had|costs?|spends?|needs?|gets?|got|pays?|takes?|makes?|see|left|only|sold|scored|weighs?)\s+",
    re.IGNORECASE,
)
_JOINED: Final = re.compile(
    rf"\s*(?:,?\s*\b(?:or|and|to|through|vs\.?|plus|minus|times|divided by|multiplied by)\b|[-~,/&±+*×^:]+|\*\*)\s*"
    rf"(?:\b(?:maybe|perhaps|even|is|are|be)\b\s*)?(?:[a-z]\s*=\s*)?(?:{NUMBER}|{NUMBER_WORD}|\()",
    re.IGNORECASE,
)
_GLUED: Final = re.compile(r"[A-Za-z√π(\\^*/:!_]")
_BOUND: Final = re.compile(
    r"(?:\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower) than|at least|at most|up to|between|from|under|over|not|isn't)|[<>≤≥])\s*$",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r"\b(?:step|figure|fig\.?|question|equation|eq\.?|table|line|row|column|part|method)\s*\(?$", re.IGNORECASE)
_OR: Final = re.compile(r"\b(?:or|either|maybe|versus|vs)\b|或", re.IGNORECASE)
_NO_THINGS: Final = re.compile(r"\W*(?:so,? )?there (?:are|is) no\s+[a-z]+", re.IGNORECASE)
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n")
_UNIT_IN_QUESTION: Final = re.compile(r"\(\s*units?\s*:\s*([^()]{1,20})\)", re.IGNORECASE)
_MAX_SENTENCE: Final = 500


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
        asked = unit or (match[1] if (match := _UNIT_IN_QUESTION.search(question)) else "")
        gold = None if answer is None else parse_quantity(_clean(answer))
        if gold is not None and whole and gold.value.denominator != 1:
            gold = None
        self._precision = precision
        self._gold = gold
        self._unit = canonical_unit(normalise(asked)) or (gold.unit if gold is not None else "")
        self._asked = asked.casefold()
        self._value = None if gold is None else self._round(gold)
        self.gold = None if self._value is None else format_number(self._value)

    def read(self, span: str) -> str | None:
        """The number that a sentence states; see the interface."""
        found = _find_quantity(_clean(span))
        return found if found is None or isinstance(found, str) else self._canonical(found)

    def read_alone(self, span: str) -> str | None:
        """The number, where the span is nothing else."""
        text = _clean(span)
        found = parse_quantity(text)
        if found is None and text.count("=") == 1 and len(text) < 100:
            found = parse_quantity(text.partition("=")[2])
        return None if found is None else self._canonical(found)

    def _canonical(self, found: Quantity) -> str:
        values = [self._round(found)]
        if found.unit and self._unit and found.unit != self._unit:
            factor = conversion_factor(found.unit, self._unit)
            if factor is not None:
                values = [self._round(Quantity(found.value * factor, exact=found.exact))]
            elif found.unit == "%" and self._gold is not None:
                values = [self._round(Quantity(found.value / 100))]
            else:
                return f"{format_number(values[0])} {found.unit}"
        elif found.unit == "%" and self._unit != "%":
            values.append(self._round(Quantity(found.value / 100)))
        elif self._gold is not None and self._gold.unit == "%" and not found.unit:
            values.append(self._round(Quantity(found.value * 100, exact=found.exact)))
        if found.scale != 1 and self._asked and any(word in self._asked for word in ("thousand", "million", "billion")):
            values.append(self._round(Quantity(found.value / found.scale)))
        if self._value is not None and self.gold is not None:
            tolerance = 0 if found.exact and (self._gold is None or self._gold.exact) else abs(self._value) / 10**9
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


def find_quantities(text: str) -> list[tuple[int, int, Quantity]]:
    """Start, end and value of every number in running text, numerals of headings such as ``Step 2`` left out."""
    found = []
    for match in _NUMBER.finditer(text):
        before, after = text[: match.start()], text[match.end() : match.end() + 2]
        if _LABEL.search(before, max(0, len(before) - 12)) or re.match(r"[A-Za-z_√π^]|[:/]\d", after):
            unit = parse_quantity(text[match.start() :].split(" ")[0]) if after[:1].isalpha() else None
            if unit is None:
                continue
        value = parse_quantity(match[0])
        if value is not None:
            found.append((match.start(), match.end(), value))
    return found


def _clean(span: str) -> str:
    return clean_latex(normalise(span[: 3 * _MAX_SENTENCE])).strip()


def _find_quantity(text: str) -> Quantity | str | None:
    """The quantity that a text states, ``REFUSED`` if it states several, None without any."""
    whole = parse_quantity(text)
    if whole is not None:
        return whole
    text = _SENTENCE.split(text, maxsplit=1)[0]
    if len(text) > _MAX_SENTENCE:
        return None
    explanation = EXPLANATION.search(text)
    stated = text[: explanation.start()] if explanation and explanation.start() > 0 else text
    stated = stated.rstrip(" ,;")
    whole = parse_quantity(stated)
    if whole is not None:
        return whole
    numbers = find_quantities(stated)
    if _OR.search(stated) and len({value.value for _, _, value in numbers}) > 1:
        return REFUSED
    leading = _leading(stated)
    if leading is not None and not re.search(r"[=≈]", stated):
        return leading
    for sign in reversed(list(_EQUALS.finditer(stated))):
        found = _leading(stated[sign.end() :])
        if found is not None:
            return found
    if leading is not None:
        return leading
    claims = [found for sign in _STATES.finditer(stated) if (found := _leading(stated[sign.end() :])) is not None]
    if len(claims) == 1:
        return claims[0]
    if len({value.value for _, _, value in numbers}) == 1:
        start = numbers[-1][0]
        return REFUSED if _BOUND.search(stated, 0, start) else _leading(stated[start:])
    if numbers:
        return REFUSED
    if _NO_THINGS.match(stated):
        return Quantity(Fraction(0))
    words = [w for w in _WORDS.finditer(stated) if w[0].casefold() != "one"]
    return _leading(stated[words[0].start() :]) if len(words) == 1 else None


def _leading(text: str) -> Quantity | str | None:
    """The quantity that a text begins with; ``REFUSED`` if another one is joined to it."""
    text = text.strip().lstrip("~≈:(\"'[ ")
    text = re.sub(r"^(?:about|approximately|approx\.?|around|roughly|exactly|only|just|nearly|the number|equal to|x\s*=)\s+", "", text, flags=re.IGNORECASE)
    match = _NUMBER.match(text) or _WORDS.match(text)
    if match is None:
        if text[:1] in "√π-" and (end := re.search(r"[\s,;.](?!\d)|$", text)):
            return parse_quantity(text[: end.start()])
        return REFUSED if re.match(r"(?:not|between|more than|less than|at least|at most|from|over)\b", text, re.IGNORECASE) and _NUMBER.search(text) else None
    rest = text[match.end() :]
    if match.re is _WORDS and re.match(r"\s+of\b|\s+(?:is|are|has)\b", rest):
        return None
    if _JOINED.match(rest):
        closed = re.match(r"[\d.√π()*^/×+\- ]+", text)
        return (parse_quantity(closed[0]) if closed is not None else None) or REFUSED
    words = re.split(r"(?<=\S)(?=[\s,;()])", rest, maxsplit=3)
    for count in range(min(3, len(words)), -1, -1):
        found = parse_quantity(match[0] + "".join(words[:count]))
        if found is not None:
            if count == 0 and _GLUED.match(rest):
                return None if rest[0] != "(" else found
            return found
    return None
