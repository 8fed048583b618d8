"""Multiple-choice answers: which option a sentence names, by its letter, by its text, or by both."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from mstar.grading.latex import clean_latex
from mstar.grading.normalisation import normalise
from mstar.grading.options import Options, fold_choice
from mstar.grading.reader import REFUSED, AnswerReader
from mstar.grading.sentences import EXPLANATION
from mstar.grading.statements import state_quantity

__all__ = ["ChoiceReader"]

_LEADING: Final = re.compile(
    r"[\s\"'*]*(?i:(?:the\s+)?(?:option|choice|answer|letter|选项)\s*(?:letter\s*)?:?\s*)?"
    r"(?:[(\[{<]\s*(?P<bracketed>[A-Za-z])\s*[)\]}>]"
    r"|(?P<delimited>[A-Za-z])\s*(?:\)|[.:](?=\s|$|\W|[A-Z\d]))"
    r"|[(\[]?(?P<bare>[A-Za-z])(?![\w'’]))"
)
_LABEL: Final = re.compile(
    r"\((?P<bracketed>[A-Za-z])\)|\b(?i:option|choice|answer|letter)s?\s*:?\s*(?P<named>[A-Z])\b(?!')"
    r"|选项?\s*(?P<chosen>[A-Z])(?![A-Za-z])|(?<![A-Za-z])(?P<item>[A-Z])\s*选?项"
)
_JOINED: Final = re.compile(
    r"\s*(?:,?\s*\b(?:or|and|nor|and/or)\b|[,/&+]|或|和|、)\s*(?:also\s+|maybe\s+|perhaps\s+|(?:option|choice)\s+)?"
    r"(?:\((?P<bracketed>[A-Za-z])\)|(?P<bare>[A-Z])(?![\w']))"
)
_AFTER_BARE: Final = re.compile(
    r"\s*(?:$|[,;:.\-=)]|\b(?:because|since|as|is|and|or|with|for|where|which|if|based|due|given)\b|[^\x00-\x7f])",
    re.IGNORECASE,
)
_FINAL_LETTER: Final = re.compile(
    r"(?:'s|\b(?i:is|be|it|think|label(?:l?ed)?|likely|probably|are|choose|select|pick|so|hence|thus|therefore)"
    r"|[:=>]|选|是|为)\s*([A-Z])\W*$"
)
_DENIED: Final = re.compile(
    r"(?:\bnot|n't|不|\bneither|\bnor|\brather than|\binstead of|\bexcept|\bexcluding|不是)\s*"
    r"(?:be\s+)?(?:the\s+|an?\s+)?(?:option\s+|choice\s+)?\W{0,3}$",
    re.IGNORECASE,
)
_DENIED_AFTER: Final = re.compile(
    r"\s*(?:[^.,;]{0,40}?\b(?:is|are|was|would be|seems)\s+(?:not|incorrect|wrong|false|also wrong)\b"
    r"|[^.,;]{0,20}?\b(?:isn't|cannot|can't)\b)",
    re.IGNORECASE,
)
_DENIAL: Final = re.compile(r"\b(?:not|wrong|incorrect|cannot|isn't|false)\b", re.IGNORECASE)
_LISTED: Final = re.compile(r"\W{0,3}([A-Z])\s*[).:]|\W*\(([A-Z])\)")
_SEPARATORS: Final = " \t.:,;)-*\"'$]"
_DOUBLE: Final = re.compile(r"\b(?:or|either|maybe|both|could|might)\b|或", re.IGNORECASE)
_DOUBLED: Final = re.compile(r"(?:\bor\b|/|\band\b)\s*$")
_CONCLUDED: Final = re.compile(r"(?:[,:]|\b(?:so|is|hence|thus|therefore))\s*$")
_OPENING: Final = re.compile(r"(yes|no|true|false)\s*(?:[,;:.]|-\s)", re.IGNORECASE)
_LONE_LETTER: Final = re.compile(r"(?<![\w'])[B-HJ-Z](?![\w'])")
# Words that occur in any sentence: they name an option only where a sentence begins or ends with them.
_COMMON: Final = frozenset({"yes", "no", "true", "false", "none", "an"})
_SPACE: Final = re.compile(r"\s+")
_MAX_LENGTH: Final = 1500


class ChoiceReader(AnswerReader):
    """Reads answers that are one of several options; two options with one text are one answer.

    A single capital letter is an option's letter, even where another option's text is that letter: it is what the
    question asks for. A letter that is followed by the text of another option names neither.

    Args:
        answer: The gold answer, an option's letter or text, or None.
        choices: The options' texts; without any, only letters can be read.
    """

    def __init__(self, answer: str | None, choices: tuple[str, ...]) -> None:
        self._options = Options(choices)
        self._gold_text = "" if answer is None else " ".join(answer.split())
        self.gold = None
        self.gold = self._read_gold(self._gold_text) if self._gold_text else None

    def read(self, span: str) -> str | None:
        """The letter of the option that a sentence names; see the interface."""
        alone = self.read_alone(span)
        if alone is not None:
            return alone
        text = clean_latex(normalise(span[:_MAX_LENGTH])).replace("$", "").strip()
        leading = self._read_leading(text)
        return self._read_mentions(text) if leading is None else leading

    def read_alone(self, span: str) -> str | None:
        """The letter, where the span is nothing but an option's letter, its text, or both."""
        text = " ".join(span[:_MAX_LENGTH].split()).strip("\"'*` ")
        bare = text.rstrip(".。 ")
        if self.gold is not None and bare == self._gold_text:
            return self.gold
        is_letter = len(bare) == 1 and bare.isascii() and bare.isupper() and self._options.index(bare) is not None
        for candidate in (text, bare):
            if not is_letter and candidate in self._options.exact:
                return self._options.letter(self._options.exact.index(candidate))
        folded = fold_choice(bare)
        index = self._options.match_text(folded) if len(folded) > 1 else None
        return self._read_letter_alone(bare) if index is None else self._options.letter(index)

    def read_opening(self, sentence: str) -> str | None:
        """The yes or no that a sentence opens with, where these are options."""
        match = _OPENING.match(sentence)
        index = self._options.match_text(match[1].casefold()) if match is not None else None
        return None if index is None else self._options.letter(index)

    def is_listing(self, lines: list[str]) -> bool:
        """Whether two neighbouring lines begin with the letters of neighbouring options."""
        labels = [(match[1] or match[2]) if (match := _LISTED.match(line)) else "" for line in lines]
        return any(a and b and ord(b) - ord(a) == 1 for a, b in pairwise(labels))

    def _read_gold(self, text: str) -> str | None:
        if text in self._options.exact:
            return self._options.letter(self._options.exact.index(text))
        match = _LEADING.fullmatch(text.rstrip("."))
        letter = self._options.index(_letter(match)) if match is not None else None
        if letter is None and self._options.exact:
            letter = self._options.match_text(fold_choice(text))
            if letter is None:
                return self.read_alone(text)
        return None if letter is None else self._options.letter(letter)

    def _read_letter_alone(self, text: str) -> str | None:
        match = _LEADING.match(text)
        letter = self._options.index(_letter(match)) if match is not None else None
        if match is None or letter is None:
            return None
        rest = fold_choice(text[match.end() :].strip(_SEPARATORS))
        if not rest:
            lower = match["bare"] is not None and match["bare"].islower()
            unclear = lower and self._options.is_text_of_another(letter, match["bare"])
            return None if unclear else self._options.letter(letter)
        named = self._options.match_text(rest)
        if named is None:
            return None
        if self._options.same(letter, named):
            return self._options.letter(letter)
        # "A dog" may be the text of another option rather than a letter with a wrong text.
        return None if match["bare"] is not None else REFUSED

    def _read_leading(self, text: str) -> str | None:
        """The option whose letter a text begins with; ``REFUSED`` if it also names another."""
        match = _LEADING.match(text)
        letter = self._options.index(_letter(match)) if match is not None else None
        if match is None or letter is None:
            return None
        rest = text[match.end() :]
        bare = match["bare"]
        if (bare or match["delimited"] or "A").islower():
            return None
        folded = fold_choice(rest.strip(_SEPARATORS))
        named = self._options.match_start(folded)
        if bare is not None and bare in "AI" and not _AFTER_BARE.match(rest):
            return None
        joined = _JOINED.match(rest)
        if joined is not None and self._options.index(_letter(joined)) not in (None, letter):
            return REFUSED
        if _DENIED_AFTER.match(rest):
            return REFUSED
        if named is not None and not self._options.same(letter, named):
            return REFUSED
        if self._options.contradicts(letter, folded):
            return REFUSED
        remainder = folded if named is None else self._options.without_text(named, folded)
        stated = EXPLANATION.split(remainder, maxsplit=1)[0]
        return REFUSED if self._names_another(letter, rest, stated) else self._options.letter(letter)

    def _names_another(self, letter: int, rest: str, stated: str) -> bool:
        """Whether the text behind an option's letter also names another one, before it begins to explain."""
        labels = {self._options.index(_letter(label)) for label in _LABEL.finditer(rest[: len(stated) + 8])}
        if labels - {None, letter} and not _DENIAL.search(rest):
            return True
        if not _DOUBLE.search(stated):
            return False
        named = {self._options.index(other) for other in _LONE_LETTER.findall(rest)} | self._find_named(stated)
        return bool(named - {None, letter})

    def _read_mentions(self, text: str) -> str | None:
        """The only option that a sentence names; first without its explanation, then with it."""
        explanation = EXPLANATION.search(text)
        stated = text[: explanation.start()] if explanation is not None and explanation.start() > 0 else text
        for candidate in dict.fromkeys((stated, text)):
            named = self._find_named(candidate)
            final = _FINAL_LETTER.search(candidate)
            index = self._options.index(final[1]) if final is not None else None
            if final is not None and index is not None and not _is_denied(candidate, *final.span(1)):
                named.add(index)
            if named:
                return self._options.letter(named.pop()) if len(named) == 1 else REFUSED
        return None

    def _find_named(self, text: str) -> set[int]:
        """The options that a text names without denying them."""
        named: set[int] = set()
        folded = _SPACE.sub(" ", normalise(text).casefold())
        labels = text
        for index, start, end in self._options.find_texts(folded):
            if len(folded) == len(text):
                # Letters inside an option's text are no labels.
                labels = labels[:start] + " " * (end - start) + labels[end:]
            if folded[start:end] in _COMMON and not _stands_out(folded, start, end):
                continue
            if not _is_denied(folded, start, end):
                named.add(index)
        for label in _LABEL.finditer(labels):
            written = _letter(label)
            labelled = self._options.index(written) if written.isupper() else None
            if labelled is not None and not _is_denied(labels, *label.span()):
                named.add(labelled)
        if not named and self._options.numeric:
            found = state_quantity(text)
            value = None if found is None or isinstance(found, str) else self._options.match_number(found)
            named |= set() if value is None else {value}
        return named


def _letter(match: re.Match[str]) -> str:
    """The letter in whichever group took part."""
    return str(match[match.lastgroup or 0])


def _is_denied(text: str, start: int, end: int) -> bool:
    return bool(_DENIED.search(text, max(0, start - 40), start) or _DENIED_AFTER.match(text, end))


def _stands_out(text: str, start: int, end: int) -> bool:
    """Whether a common word opens the text, concludes it, or is offered beside another."""
    if start == 0 or _DOUBLED.search(text, 0, start):
        return True
    return bool(_CONCLUDED.search(text, 0, start)) and not text[end:].strip(" .")
