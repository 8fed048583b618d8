"""Multiple-choice answers: which option a sentence names, by its letter, by its text, or by both."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from mstar.grading.clauses import answering_clauses
from mstar.grading.latex import clean_latex, strip_dollars
from mstar.grading.mentions import DENIAL, DENIED_AFTER, LABEL, LONE_LETTER, Mentions, letter_of
from mstar.grading.normalisation import normalise
from mstar.grading.options import Options, fold_choice
from mstar.grading.reader import REFUSED, AnswerReader
from mstar.grading.restatement import Restatement
from mstar.grading.sentences import EXPLANATION

__all__ = ["ChoiceReader"]

_LEADING: Final = re.compile(
    r"[\s\"'*]*(?i:(?:the\s+)?(?:option|choice|answer|letter|选项)\s*(?:letter\s*)?:?\s*)?"
    r"(?:[(\[{<]\s*(?P<bracketed>[A-Za-z])\s*[)\]}>]"
    r"|(?P<delimited>[A-Za-z])\s*(?:\)|[.:](?=\s|$|\W|[A-Z\d]))"
    r"|[(\[]?(?P<bare>[A-Za-z])(?![\w'’]))"
)
_JOINED: Final = re.compile(
    r"\s*(?:,?\s*\b(?:or|and|nor|and/or)\b|[,/&+]|或|和|、)\s*(?:also\s+|maybe\s+|perhaps\s+|(?:option|choice)\s+)?"
    r"(?:\((?P<bracketed>[A-Za-z])\)|(?P<bare>[A-Z])(?![\w']))"
)
_AFTER_BARE: Final = re.compile(
    r"\s*(?:$|[,;:.\-=)]|\b(?:because|since|as|is|and|or|with|for|where|which|if|based|due|given|would|will|has|was|can|must|should)\b|[^\x00-\x7f])",
    re.IGNORECASE,
)
_LISTED: Final = re.compile(r"\W{0,3}([A-Z])\s*[).:]|\W*\(([A-Z])\)")
_SEPARATORS: Final = " \t.:,;()-*\"'$[]"
_DOUBLE: Final = re.compile(r"\b(?:or|either|maybe|both|could|might)\b|或", re.IGNORECASE)
# A letter beyond the options', before one's text: "C) No".
_NO_LETTER: Final = re.compile(r"\(?([A-Z])[).:]\s+(?=\S)")
# What a text ends by stating: "the time is quarter past", "cos A = 0.8".
_ENDS_WITH: Final = re.compile(r"(?:\bis|\bare|=)\s+([^=]+?)\W*$")
_UNDETERMINED: Final = re.compile(
    r"\b(?:cannot|can't|can not) be determined\b|\b(?:not enough|insufficient) information\b", re.IGNORECASE
)
_OPENING: Final = re.compile(r"(yes|no|true|false)\s*(?:[,;:.]|-\s)", re.IGNORECASE)
_BULLET: Final = re.compile(r"^[->•]\s+(?=[A-Za-z(])")
_MAX_LENGTH: Final = 1500


class ChoiceReader(AnswerReader):
    """Reads answers that are one of several options; two options with one text are one answer.

    A single capital letter is an option's letter, even where another option's text is that letter: it is what the
    question asks for. A letter that is followed by the text of another option names neither.

    What is read is the option's letter, of two options with one text the first one's.

    Args:
        answer: The gold answer, an option's letter or text, or None.
        choices: The options' texts; without any, only letters can be read.
        question: The question, which a statement may answer with yes or no.
    """

    def __init__(self, answer: str | None, choices: tuple[str, ...], question: str = "") -> None:
        self._options = Options(choices)
        self._mentions = Mentions(self._options, question)
        self._yes, self._no = self._options.match_text("yes"), self._options.match_text("no")
        self._restatement = Restatement(question if None not in (self._yes, self._no) else "")
        # The option that says that nothing can be said.
        undetermined = [i for i, choice in enumerate(choices) if _UNDETERMINED.search(choice)]
        self._undetermined = undetermined[0] if len(undetermined) == 1 else None
        self._gold_text = "" if answer is None else " ".join(answer.split())
        self.gold = None
        self.gold = self._read_gold(self._gold_text) if self._gold_text else None

    def read(self, span: str) -> str | None:
        """The letter of the option that a sentence names; see the interface."""
        if (label := _NO_LETTER.match(span)) is not None and self._options.index(label[1]) is None:
            span = span[label.end() :]
        alone = self.read_alone(span)
        if alone is not None:
            return alone
        text = strip_dollars(clean_latex(normalise(span[:_MAX_LENGTH]))).strip()
        # "A: No, because ..." abbreviates the word answer.
        opening = self.read_opening(text[2:].lstrip()) if text.startswith("A:") else None
        found = self._read_leading(text) if opening is None else opening
        if found == REFUSED and (results := answering_clauses(text)[:-1]):
            # "(A) is too small, so what remains is (B)."
            found = self._mentions.read(results[0]) or REFUSED
        for clause in answering_clauses(text)[:-1] if found is None else ():
            found = found or self._read_leading(clause.strip()) or None
        if found is None:
            found = self._mentions.read(text)
        found = self._read_restatement(text) if found is None else found
        open_ended = self._undetermined if found is None and _UNDETERMINED.search(text) else None
        return found if open_ended is None else self._options.letter(open_ended)

    def _read_restatement(self, text: str) -> str | None:
        affirmed = self._restatement.read(text)
        index = None if affirmed is None else self._yes if affirmed else self._no
        return None if index is None else self._options.letter(index)

    def read_alone(self, span: str) -> str | None:
        """The letter, where the span is nothing but an option's letter, its text, or both."""
        text = _BULLET.sub("", " ".join(span[:_MAX_LENGTH].split())).strip("\"'*` ")
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
        letter = self._options.index(letter_of(match)) if match is not None else None
        if letter is None and self._options.exact:
            letter = self._options.match_text(fold_choice(text))
            if letter is None:
                return self.read_alone(text)
        return None if letter is None else self._options.letter(letter)

    def _read_letter_alone(self, text: str) -> str | None:
        match = _LEADING.match(text)
        letter = self._options.index(letter_of(match)) if match is not None else None
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
        letter = self._options.index(letter_of(match)) if match is not None else None
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
        if rest.lstrip().startswith("=") and (named is None or not self._options.same(letter, named)):
            return None  # a variable
        joined = _JOINED.match(rest)
        if joined is not None and self._options.index(letter_of(joined)) not in (None, letter):
            return REFUSED
        if DENIED_AFTER.match(rest) and not self._options.is_within(letter, folded):
            return REFUSED
        if named is not None and not self._options.same(letter, named):
            return REFUSED
        if self._options.contradicts(letter, folded):
            return REFUSED
        remainder = folded if named is None else self._options.without_text(named, folded)
        stated = EXPLANATION.split(remainder, maxsplit=1)[0]
        if (end := _ENDS_WITH.search(stated)) is not None:
            concluded = self._options.match_text(fold_choice(end[1]))
            if concluded is not None and not self._options.same(letter, concluded):
                return REFUSED
        return REFUSED if self._names_another(letter, rest, stated) else self._options.letter(letter)

    def _names_another(self, letter: int, rest: str, stated: str) -> bool:
        """Whether the text behind an option's letter also names another one, before it begins to explain."""
        labels = {self._options.index(letter_of(label)) for label in LABEL.finditer(rest[: len(stated) + 8])}
        if labels - {None, letter} and not DENIAL.search(rest):
            return True
        if not _DOUBLE.search(stated):
            return False
        named = {self._options.index(other) for other in LONE_LETTER.findall(rest)} | self._mentions.find(stated)
        return bool(named - {None, letter})
