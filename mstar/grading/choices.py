"""Multiple-choice answers: which option a sentence names, by its letter, by its text, or by both."""

from __future__ import annotations

import re
from typing import Final

from mstar.grading.extraction import REFUSED, AnswerReader
from mstar.grading.latex import clean_latex
from mstar.grading.normalisation import fold, normalise
from mstar.grading.numbers import EXPLANATION
from mstar.grading.quantities import Quantity, parse_quantity
from mstar.grading.units import conversion_factor

__all__ = ["ChoiceReader"]

_MAX_OPTIONS_UNKNOWN: Final = 10
_LEADING: Final = re.compile(
    r"[\s\"'*]*(?:(?:the\s+)?(?:option|choice|answer|letter|选项)\s*(?:letter\s*)?:?\s*)?"
    r"(?:[(\[{<]\s*(?P<bracketed>[A-Za-z])\s*[)\]}>]|(?P<delimited>[A-Za-z])\s*(?:\)|[.:](?=\s|$|\W|[A-Z\d]))|(?P<bare>[A-Za-z])(?![\w'’]))"
)
_LABEL: Final = re.compile(
    r"\((?P<bracketed>[A-Za-z])\)|\b(?:option|choice|answer|letter)s?\s*:?\s*(?P<named>[A-Z])\b(?!')|选项?\s*(?P<chosen>[A-Z])(?![A-Za-z])"
)
_JOINED: Final = re.compile(r"\s*(?:,?\s*\b(?:or|and|nor|and/or)\b|[,/&+]|或|和|、)\s*(?:also\s+|maybe\s+|perhaps\s+|(?:option|choice)\s+)?\(?([A-Za-z])\)?(?![\w'])")
_AFTER_BARE: Final = re.compile(r"\s*(?:$|[,;:.\-=)]|\b(?:because|since|as|is|and|or|with|for|where|which|if|based|due|given)\b|[^\x00-\x7f])", re.IGNORECASE)
_FINAL_LETTER: Final = re.compile(r"(?:\b(?:is|be|are|choose|select|pick|so|hence|thus|therefore)|[:=>]|选|是|为)\s*([A-Z])\W*$", re.IGNORECASE)
_IS_RIGHT: Final = re.compile(r"\s*(?:is|would be|must be)\s+(?:the\s+)?(?:correct|right|best|answer|true)", re.IGNORECASE)
_DENIED: Final = re.compile(r"(?:\bnot|n't|\bneither|\bnor|\brather than|\binstead of|\bexcept|\bexcluding|不是|而不是)\s+(?:be\s+)?(?:the\s+|an?\s+)?(?:option\s+|choice\s+)?\W{0,3}$", re.IGNORECASE)
_DENIED_AFTER: Final = re.compile(
    r"\s*(?:[^.,;]{0,40}?\b(?:is|are|was|would be|seems)\s+(?:not|incorrect|wrong|false|also wrong)\b|[^.,;]{0,20}?\b(?:isn't|cannot|can't)\b)", re.IGNORECASE
)
_LISTED: Final = re.compile(r"\W{0,3}([A-Z])\s*[).:]|\W*\(([A-Z])\)")
_SEPARATORS: Final = " \t.:,;)-*\"'$]"
_DOUBLE: Final = re.compile(r"\b(?:or|either|maybe|both|could|might)\b|或", re.IGNORECASE)
_YES_NO: Final = frozenset({"yes", "no", "true", "false", "none", "a", "i", "an", "not sure"})


class ChoiceReader(AnswerReader):
    """Reads answers that are one of several options; two options with one text are one answer.

    A single capital letter is an option's letter, even where another option's text is that letter: it is what the
    question asks for. A letter that is followed by the text of another option names neither.

    Args:
        answer: The gold answer, an option's letter or text, or None.
        choices: The options' texts; without any, only letters can be read.
    """

    def __init__(self, answer: str | None, choices: tuple[str, ...]) -> None:
        self._exact = [" ".join(choice.split()) for choice in choices]
        self._folded = [_fold(choice) for choice in choices]
        self._count = len(choices) or _MAX_OPTIONS_UNKNOWN
        self._quantities: list[Quantity | None] = [_number(choice) for choice in self._folded]
        by_length = sorted({text for text in self._folded if text}, key=len, reverse=True)
        self._pattern = (
            re.compile("|".join(rf"(?<!\w){re.escape(text)}(?!\w)" for text in by_length)) if by_length else None
        )
        self._gold_text = None if answer is None else " ".join(answer.split())
        self._gold = None if answer is None else self._read_gold(answer)
        self.gold = None if self._gold is None else self._letter(self._gold)

    def read(self, span: str) -> str | None:
        """The letter of the option that a sentence names; see the interface."""
        alone = self.read_alone(span)
        if alone is not None:
            return alone
        text = clean_latex(normalise(span[:1500])).replace("$", "").strip()
        leading = self._read_leading(text)
        if leading is not None:
            return leading if isinstance(leading, str) else self._letter(leading)
        return self._read_mentions(text)

    def read_alone(self, span: str) -> str | None:
        """The letter, where the span is nothing but an option's letter, its text, or both."""
        text = " ".join(span.split()).strip("\"'*` ")
        bare = text.rstrip(".。 ")
        if self._gold_text is not None and self._gold is not None and bare == self._gold_text:
            return self._letter(self._gold)
        if not (len(bare) == 1 and bare.isascii() and bare.isupper() and self._index(bare) is not None):
            for candidate in (text, bare):
                if candidate in self._exact:
                    return self._letter(self._exact.index(candidate))
        if len(bare) > 600:
            return None
        folded = _fold(bare)
        index = self._match_text(folded)
        if len(folded) > 1 and index is not None:
            return self._letter(index)
        leading = _LEADING.match(bare)
        if leading is None:
            return None
        letter = self._index(leading["bracketed"] or leading["delimited"] or leading["bare"])
        rest = _fold(bare[leading.end() :].strip(_SEPARATORS))
        if letter is None:
            return None
        if not rest:
            lower = (leading["bare"] or "").islower()
            return None if lower and self._clashes(letter, leading["bare"]) else self._letter(letter)
        named = self._match_text(rest)
        if named is None or (leading["bare"] is not None and self._same(letter, named) is False):
            return None
        return self._letter(letter) if self._same(letter, named) else REFUSED

    def is_listing(self, lines: list[str]) -> bool:
        """Whether two neighbouring lines begin with the letters of neighbouring options."""
        labels = [(match[1] or match[2]) if (match := _LISTED.match(line)) else "" for line in lines]
        pairs = zip(labels, labels[1:], strict=False)
        return any(a and b and ord(b) - ord(a) == 1 for a, b in pairs)

    def _read_gold(self, answer: str) -> int | None:
        text = " ".join(answer.split())
        if text in self._exact:
            return self._canonical(self._exact.index(text))
        match = _LEADING.fullmatch(text.rstrip("."))
        letter = self._index(match["bracketed"] or match["delimited"] or match["bare"]) if match else None
        if letter is not None:
            return self._canonical(letter)
        index = self._match_text(_fold(answer))
        if index is not None:
            return self._canonical(index)
        alone = self.read_alone(answer) if self._exact else None
        return self._index(alone) if alone else None

    def _read_leading(self, text: str) -> int | str | None:
        """The option whose letter a text begins with; ``REFUSED`` if it also names another."""
        match = _LEADING.match(text)
        if match is None:
            return None
        written = match["bracketed"] or match["delimited"] or match["bare"]
        letter = self._index(written)
        if letter is None:
            return None
        rest = text[match.end() :]
        if match["bare"] and (written.islower() or (written in "AI" and not _AFTER_BARE.match(rest))):
            return None
        if match["delimited"] and written.islower():
            return None
        joined = _JOINED.match(rest)
        if joined is not None and self._index(joined[1]) not in (None, letter) and (joined[1].isupper() or "(" in joined[0]):
            return REFUSED
        if _DENIED_AFTER.match(rest):
            return REFUSED
        folded = _fold(rest.strip(_SEPARATORS))
        if match["bare"] is not None and rest[:1] == " " and not _AFTER_BARE.match(rest) and self._starts(folded) is None:
            return None if written in "AI" else letter
        named = self._starts(folded)
        if named is not None and not self._same(letter, named):
            return REFUSED
        number = _number(folded)
        if number is not None and self._quantities and (own := self._quantities[letter]) is not None and not _equal(own, number):
            return REFUSED
        remainder = folded
        if named is not None:
            remainder = folded[len(self._folded[named]) :]
        stated = EXPLANATION.split(remainder, maxsplit=1)[0]
        others = {self._index(m["bracketed"] or m["named"] or m["chosen"]) for m in _LABEL.finditer(rest[: len(stated) + 8])}
        if others - {None, letter} and not re.search(r"\b(?:not|wrong|incorrect|cannot|isn't|false)\b", rest, re.IGNORECASE):
            return REFUSED
        if _DOUBLE.search(stated) and self._mentions(stated) - {letter}:
            return REFUSED
        return letter

    def _read_mentions(self, text: str) -> str | None:
        stated = text
        explanation = EXPLANATION.search(text)
        if explanation is not None and explanation.start() > 0:
            stated = text[: explanation.start()]
        for candidate in dict.fromkeys((stated, text)):
            named = self._mentions(candidate)
            final = _FINAL_LETTER.search(candidate)
            if final is not None and (final[1].isupper()) and (letter := self._index(final[1])) is not None:
                named = named | {letter}
            if len(named) == 1:
                return self._letter(named.pop())
            if len(named) > 1:
                return REFUSED
        return None

    def _mentions(self, text: str) -> set[int]:
        """The options that a text names without denying them, equal texts counted once."""
        named: set[int] = set()
        folded = _SPACE.sub(" ", normalise(text).casefold())
        if self._pattern is not None:
            for match in self._pattern.finditer(folded):
                if len(match[0]) == 1 or (match[0] in _YES_NO and match.start() > 0):
                    continue
                if not self._is_denied(folded, match.start(), match.end()):
                    named.add(self._folded.index(match[0]))
            if len(folded) == len(text):
                # Letters inside an option's text are not labels.
                text = _mask(text, [m.span() for m in self._pattern.finditer(folded) if len(m[0]) > 1])
        for match in _LABEL.finditer(text):
            written = match["bracketed"] or match["named"] or match["chosen"]
            index = self._index(written) if written.isupper() else None
            if index is not None and not self._is_denied(text, match.start(), match.end()):
                named.add(self._canonical(index))
        if not named and self._quantities and all(quantity is not None for quantity in self._quantities):
            named |= self._by_number(text)
        return named

    def _by_number(self, text: str) -> set[int]:
        from mstar.grading.numbers import find_quantities

        found = [value for _, _, value in find_quantities(text)]
        matches = {self._match_number(value) for value in found}
        return {index for index in matches if index is not None} if len({v.value for v in found}) == 1 else set()

    def _is_denied(self, text: str, start: int, end: int) -> bool:
        return bool(_DENIED.search(text, max(0, start - 40), start) or _DENIED_AFTER.match(text, end))

    def _starts(self, folded: str) -> int | None:
        """The option whose text, as whole words, a folded text begins with; the longest one."""
        if self._pattern is None:
            return None
        match = self._pattern.match(folded)
        if match is None or len(match[0]) == 1 and len(folded) > 1:
            return None
        return self._folded.index(match[0])

    def _match_text(self, folded: str) -> int | None:
        if folded in self._folded and folded:
            return self._folded.index(folded)
        number = _number(folded) if self._quantities else None
        return None if number is None else self._match_number(number)

    def _match_number(self, number: Quantity) -> int | None:
        matches = [i for i, own in enumerate(self._quantities) if own is not None and _equal(own, number)]
        values = {self._folded[i] for i in matches}
        return matches[0] if len(values) == 1 else None

    def _index(self, letter: str | None) -> int | None:
        index = ord(letter.upper()) - ord("A") if letter else -1
        return index if 0 <= index < self._count else None

    def _canonical(self, index: int) -> int:
        return self._exact.index(self._exact[index]) if self._exact else index

    def _letter(self, index: int) -> str:
        return chr(ord("A") + self._canonical(index))

    def _same(self, first: int, second: int) -> bool:
        if not self._folded or self._folded[first] == self._folded[second]:
            return True
        a, b = self._quantities[first], self._quantities[second]
        return a is not None and b is not None and _equal(a, b)

    def _clashes(self, index: int, letter: str) -> bool:
        return any(text == letter.casefold() and i != index for i, text in enumerate(self._folded))


_SPACE: Final = re.compile(r"\s+")


def _fold(text: str) -> str:
    return fold(clean_latex(normalise(text)).replace("$", "") if "$" in text or "\\" in text else text)


def _number(text: str) -> Quantity | None:
    return parse_quantity(clean_latex(text)) if any(c.isdigit() or c in "√π½" for c in text) else None


def _equal(own: Quantity, other: Quantity) -> bool:
    value = other.value
    if own.unit and other.unit and own.unit != other.unit:
        factor = conversion_factor(other.unit, own.unit)
        if factor is None:
            return False
        value *= factor
    tolerance = 0 if own.exact and other.exact else abs(own.value) / 10**9
    return abs(own.value - value) <= tolerance


def _mask(text: str, spans: list[tuple[int, int]]) -> str:
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text
