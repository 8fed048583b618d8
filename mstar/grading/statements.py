"""Which number a sentence states."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from mstar.grading.number_words import NUMBER_WORD
from mstar.grading.quantities import NUMBER, Quantity, parse_quantity
from mstar.grading.reader import REFUSED
from mstar.grading.sentences import EXPLANATION

__all__ = ["find_quantities", "state_quantity"]

_NUMBER: Final = re.compile(NUMBER, re.IGNORECASE)
_WORDS: Final = re.compile(NUMBER_WORD, re.IGNORECASE)
_EQUALS: Final = re.compile(
    r"[=≈]|(?<!\d)\s*:\s"
    r"|\b(?:is|are|was|were|be|equals?|equal to|becomes|gives|yields|makes|measures|comes to|total(?:s|ing)?|answer)\b"
    r"(?:\s+(?:about|approximately|approx\.?|around|roughly|exactly|equal to|only|simply|therefore|thus|a total of))*"
    r"\s*:?|是|为|等于",
    re.IGNORECASE,
)
_STATES: Final = re.compile(
    r"\b(?:there (?:are|is|were|will be)|has|have|had|costs?|spends?|needs?|gets?|got|pays?|takes?|makes?|see|left|"
    r"only|sold|scored|weighs?)\s+",
    re.IGNORECASE,
)
_JOINED: Final = re.compile(
    rf"\s*(?:,?\s*\b(?:or|and|to|through|vs\.?|plus|minus|times|divided by|multiplied by)\b|[-~,/&±+*×^:]+|\*\*)\s*"
    rf"(?:\b(?:maybe|perhaps|even|is|are|be)\b\s*)?(?:[a-z]\s*=\s*)?(?:{NUMBER}|{NUMBER_WORD}|\()",
    re.IGNORECASE,
)
_ANOTHER: Final = re.compile(rf"\band\s+(?:{NUMBER}|{NUMBER_WORD})", re.IGNORECASE)
_MORE_THINGS: Final = re.compile(rf"\s*[A-Za-z]+\s*(?:,\s*and|,|and)\s+(?:{NUMBER})\s+[A-Za-z]", re.IGNORECASE)
_OPERATION: Final = re.compile(r"\s*(?:squared|cubed|factorial)\b", re.IGNORECASE)
_OUT_OF: Final = re.compile(r"\W*(?:out of|of)\b[^,]{1,60},\s*", re.IGNORECASE)
_GLUED: Final = re.compile(r"[A-Za-z√π(\\^*/:_{]|[.,]\d")
_BOUND: Final = re.compile(
    r"(?:\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower) than|at least|at most|up to|between|from|under|"
    r"over|not|isn't)|[<>≤≥])\s*$",
    re.IGNORECASE,
)
_INNER: Final = re.compile(r"[\w^*/{√\\]\s*$(?<![a-z]\s)(?<![a-z])", re.IGNORECASE)
_LABEL: Final = re.compile(
    r"\b(?:step|figure|fig\.?|question|equation|eq\.?|table|line|row|column|part|method)\s*\(?$", re.IGNORECASE
)
_OR: Final = re.compile(r"\b(?:or|either|maybe|versus|vs)\b|或", re.IGNORECASE)
_NO_THINGS: Final = re.compile(r"\W*(?:so,? )?there (?:are|is) no\s+[a-z]+", re.IGNORECASE)
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n")
_LEAD: Final = re.compile(
    r"^(?:about|approximately|approx\.?|around|roughly|exactly|only|just|nearly|the number|equal to|x\s*=)\s+",
    re.IGNORECASE,
)
_LEADING_BOUND: Final = re.compile(r"(?:not|between|more than|less than|at least|at most|from|over)\b", re.IGNORECASE)
_MAX_SENTENCE: Final = 500


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


def state_quantity(text: str) -> Quantity | str | None:
    """The quantity that a text states, ``REFUSED`` if it states several, None without any."""
    whole = parse_quantity(text)
    if whole is not None:
        return whole
    text = _SENTENCE.split(text, maxsplit=1)[0]
    if len(text) > _MAX_SENTENCE:
        return None
    explanation = EXPLANATION.search(text)
    stated = text[: explanation.start()] if explanation and explanation.start() > 0 else text
    stated = _OUT_OF.sub("", stated.rstrip(" ,;"), count=1) if _OUT_OF.match(stated) else stated.rstrip(" ,;")
    whole = parse_quantity(stated)
    if whole is not None:
        return whole
    numbers = find_quantities(stated)
    if _OR.search(stated) and len(numbers) > 1:
        return REFUSED if len({value.value for _, _, value in numbers}) > 1 else numbers[0][2]
    leading = _leading(stated)
    if leading is not None and not re.search(r"[=≈]", stated) and not (leading == REFUSED and _EQUALS.search(stated)):
        return leading
    for sign in reversed(list(_EQUALS.finditer(stated))):
        found = _leading(stated[sign.end() :])
        if found is not None:
            return REFUSED if sign[0][0].isalpha() and _ANOTHER.search(stated, sign.end()) else found
    if leading is not None:
        return leading
    readings = [(sign, _leading(stated[sign.end() :])) for sign in _STATES.finditer(stated)]
    claims = [(sign, found) for sign, found in readings if found is not None]
    if len(claims) == 1:
        sign, claim = claims[0]
        return REFUSED if _ANOTHER.search(stated, sign.end()) else claim
    if len({value.value for _, _, value in numbers}) == 1:
        start = numbers[-1][0]
        return (
            REFUSED if _BOUND.search(stated, 0, start) or _INNER.search(stated, 0, start) else _leading(stated[start:])
        )
    if numbers:
        return REFUSED
    if _NO_THINGS.match(stated):
        return Quantity(Fraction(0))
    words = [w for w in _WORDS.finditer(stated) if w[0].casefold() != "one"]
    return _leading(stated[words[0].start() :]) if len(words) == 1 else None


def _leading(text: str) -> Quantity | str | None:
    """The quantity that a text begins with; ``REFUSED`` if another one is joined to it."""
    text = text.strip().lstrip("~≈:(\"'[ ")
    text = _LEAD.sub("", text, count=1)
    match = _NUMBER.match(text) or _WORDS.match(text)
    if match is None:
        if text[:1] in "√π-" and (end := re.search(r"[\s,;.](?!\d)|$", text)):
            return parse_quantity(text[: end.start()])
        return REFUSED if _LEADING_BOUND.match(text) and _NUMBER.search(text) else None
    rest = text[match.end() :]
    if match.re is _WORDS and re.match(r"\s+of\b|\s+(?:is|are|has)\b", rest):
        return None
    if _MORE_THINGS.match(rest) or _OPERATION.match(rest):
        return REFUSED
    if _JOINED.match(rest):
        closed = re.match(r"[\d.√π()*^/×+\- ]+", text)
        return (parse_quantity(closed[0]) if closed and re.search("[√π^]", closed[0]) else None) or REFUSED
    words = re.split(r"(?<=\S)(?=[\s,;()])", rest, maxsplit=3)
    for count in range(min(3, len(words)), -1, -1):
        found = parse_quantity(match[0] + "".join(words[:count]))
        if found is not None:
            if count == 0 and _GLUED.match(rest):
                return found if rest[0] == "(" else REFUSED
            return found
    return None
