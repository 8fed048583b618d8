"""The options of a multiple-choice question, and which of them a text names by its words or its value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mstar.grading.latex import clean_latex, strip_dollars
from mstar.grading.literals import find_literals, read_literal, same_literal
from mstar.grading.normalisation import fold, normalise
from mstar.grading.quantities import Quantity, parse_quantity, spell_shares
from mstar.grading.units import conversion_factor

__all__ = ["Options", "fold_choice", "tighten"]

_LETTERS_WITHOUT_TEXTS: Final = 10
_NAMES_OPTION: Final = re.compile(r"\b(?:option|choice|answer)\b|\([a-z]\)")
_WORD: Final = re.compile(r"[^\W_]+")
_NO_WORDS: Final = re.compile(r"[^\w\s.,;:'\"!?()-]|\d")
_OF: Final = re.compile(r"\b([a-z]+) of (?:the )?([a-z]+)\b")
_ENDING: Final = re.compile(r"(?<=[a-z]{3})(?:e?s|e?d|ing|e|ly)$")
_VERDICTS: Final = (["yes"], ["no"])
_LITTLE: Final = frozenset(("the", "a", "an", "would", "will", "it", "they"))
_OPERATOR: Final = re.compile(r"(?<=[\dπ)])\s+([-+*/×])\s+(?=[\dπ√(])")
_ROOT: Final = re.compile(r"√\((\d+)\)")
_TIMES_ROOT: Final = re.compile(r"(?<=\d)\s*[*·×]\s*√")
_YEAR: Final = re.compile(r"(?:1\d|20)\d\d")
_FORMULA_SIGN: Final = re.compile(r"[=<>≤≥()\[\],+^√]")


class Options:
    """The options of one question.

    Options with the same text are one: the first of them stands for all.

    Args:
        choices: The options' texts, in order; without any, the letters A to J are options.
    """

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.exact = [" ".join(choice.split()) for choice in choices]
        self._folded = [fold_choice(choice) for choice in choices]
        self._spaceless = [text.replace(" ", "") for text in self._folded]
        self._quantities = [_read_number(text) for text in self._folded]
        self._literals = [read_literal(text) for text in self._folded]
        by_length = sorted({text for text in self._folded if text}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_whole_words, by_length))) if by_length else None
        self.are_letters = bool(choices) and all(text == chr(ord("a") + i) for i, text in enumerate(self._folded))
        self.names_letters = bool(choices) and all(len(text) == 1 and text.isalpha() for text in self._folded)
        self.numeric = bool(choices) and None not in self._quantities
        self.are_years = bool(choices) and all(_YEAR.fullmatch(text) for text in self._folded)

    def __len__(self) -> int:
        return len(self.exact) or _LETTERS_WITHOUT_TEXTS

    def index(self, letter: str | None) -> int | None:
        """The option with this letter, in either case; None if there is none."""
        index = ord(letter.upper()) - ord("A") if letter else -1
        return self.first(index) if 0 <= index < len(self) else None

    def first(self, index: int) -> int:
        """The first option with the same text."""
        return self.exact.index(self.exact[index]) if self.exact else index

    def letter(self, index: int) -> str:
        """The letter of the first option with the same text."""
        return chr(ord("A") + self.first(index))

    def match_text(self, folded: str) -> int | None:
        """The option whose text, or whose value, a folded text is."""
        if folded and folded in self._folded:
            return self._folded.index(folded)
        spaceless = folded.replace(" ", "")
        if spaceless in self._spaceless and _FORMULA_SIGN.search(spaceless):
            return self._spaceless.index(spaceless)
        if not any(self._quantities) or _NAMES_OPTION.search(folded):
            return None
        number = parse_quantity(spell_shares(clean_latex(folded)))
        return None if number is None else self.match_number(number)

    def match_literals(self, text: str) -> int | None:
        """The only option that is the same time, date or ratio as the only one in a text."""
        options = [(i, own) for i, own in enumerate(self._literals) if own is not None]
        found = find_literals(text, options[0][1][0]) if options else set()
        matches = [i for i, own in options if len(found) == 1 and same_literal(next(iter(found)), own)]
        return matches[0] if len(matches) == 1 else None

    def match_number(self, number: Quantity) -> int | None:
        """The only option of this value; None if no option or several different ones have it."""
        matches = [i for i, own in enumerate(self._quantities) if own is not None and _equal(own, number)]
        return matches[0] if len({self._folded[i] for i in matches}) == 1 else None

    def is_about(self, index: int, number: Quantity) -> bool:
        """Whether a number is the option's to within a hundredth."""
        own = self._quantities[index]
        return own is not None and abs(own.value - number.value) <= abs(own.value) / 100

    def match_start(self, folded: str) -> int | None:
        """The option whose text, as whole words, a folded text begins with; the longest one."""
        match = self._pattern.match(folded) if self._pattern is not None else None
        if match is None or (len(match[0]) == 1 and len(folded) > 1):
            return None
        return self._folded.index(match[0])

    def find_texts(self, folded: str) -> Iterator[tuple[int, int, int]]:
        """Option, start and end of every option's text in a folded text; the longest at each place, no lone signs."""
        for match in self._pattern.finditer(folded) if self._pattern is not None else ():
            if len(match[0]) > 1 or match[0].isdigit():
                yield self._folded.index(match[0]), match.start(), match.end()

    def match_stems(self, text: str) -> int | None:
        """The only option all of whose words, whatever their endings, a text has in their order.

        An option whose words are among those of another such option does not count.
        """
        words = _stems(_NO_WORDS.sub("", text))
        found = [
            (i, own)
            for i, own in enumerate(map(_stems, self._folded))
            if own and own not in _VERDICTS and _is_within(own, words)
        ]
        longest = [i for i, own in found if not any(own != other and _is_within(own, other) for _, other in found)]
        return longest[0] if len({self.first(i) for i in longest}) == 1 else None

    def without_text(self, index: int, folded: str) -> str:
        """What follows the option's text at the start of a folded text."""
        return folded[len(self._folded[index]) :]

    def is_within(self, index: int, folded: str) -> bool:
        """Whether a folded text has the option's text in it."""
        return bool(self._folded) and len(self._folded[index]) > 1 and self._folded[index] in folded

    def match_part(self, text: str) -> int | None:
        """The only option with all the words of a text of at most three words."""
        words = _stems(text)
        found = [i for i, own in enumerate(map(_stems, self._folded)) if _is_within(words, own)]
        return found[0] if 0 < len(words) <= 3 and len({self.first(i) for i in found}) == 1 else None

    def same(self, first: int, second: int) -> bool:
        """Whether two options say the same."""
        if not self._folded or self._folded[first] == self._folded[second]:
            return True
        a, b = self._quantities[first], self._quantities[second]
        return a is not None and b is not None and _equal(a, b)

    def contradicts(self, index: int, folded: str) -> bool:
        """Whether a text is a number, and not the option's."""
        own = self._quantities[index] if self._quantities else None
        number = None if own is None else _read_number(folded)
        return own is not None and number is not None and not _equal(own, number)

    def is_text_of_another(self, index: int, letter: str) -> bool:
        """Whether a letter, in either case, is the text of another option."""
        return any(text == letter.casefold() and i != index for i, text in enumerate(self._folded))


def tighten(text: str) -> str:
    """A text without the blanks around the signs of a calculation; ``>=`` is one sign."""
    return _OPERATOR.sub(r"\1", _ROOT.sub(r"√\1", _TIMES_ROOT.sub("√", text)).replace(">=", "≥").replace("<=", "≤"))


def fold_choice(text: str) -> str:
    """The form in which options' texts are compared: LaTeX spelt plainly, without its dollar signs."""
    if "$" in text or "\\" in text or "{" in text:
        text = strip_dollars(clean_latex(normalise(text)))
    return tighten(fold(text))


def _stems(text: str) -> list[str]:
    """The words without endings and articles, "of" turned around: the population of hawks is the hawk population.

    Numbers and formulas have no stems.
    """
    if _NO_WORDS.search(text):
        return []
    words = _OF.sub(r"\2 \1", " ".join(_WORD.findall(fold(text)))).split()
    # The last word is no article: "Solution A".
    return [_ENDING.sub("", word) for i, word in enumerate(words, 1) if word not in _LITTLE or i == len(words)]


def _is_within(words: list[str], others: list[str]) -> bool:
    """Whether the words stand among the others in the same order."""
    rest = iter(others)
    return all(word in rest for word in words)


def _read_number(text: str) -> Quantity | None:
    return parse_quantity(clean_latex(text)) if any(c.isdigit() or c in "√π" for c in text) else None


def _equal(own: Quantity, other: Quantity) -> bool:
    value = other.value
    if own.unit and other.unit and own.unit != other.unit:
        factor = conversion_factor(other.unit, own.unit)
        if factor is None:
            return False
        value *= factor
    if own.unit == "%" and not other.unit and abs(value) < 1:
        value *= 100  # 0.12 for 12%
    if other.unit == "%" and not own.unit and abs(own.value) < 1:
        value /= 100
    tolerance = 0 if own.exact and other.exact else abs(own.value) / 10**9
    return abs(own.value - value) <= tolerance


def _whole_words(text: str) -> str:
    """A pattern for a text that is not part of a longer word or number."""
    before = r"(?<![\w./-])" if text[0].isdigit() else r"(?<!\w)"
    return rf"{before}{re.escape(text)}(?!\w|[.,/]\d|(?<=\d)[√π^]|(?<=[\dπ)])\s*[-+*/×]\s*[\dπ√(])"
