"""Multiple-choice answers: the option, or the options, that a text names by letter, by text, or by both."""

from __future__ import annotations

import re
from typing import Final

from mstar.grading.base import AnswerReader
from mstar.grading.formulas import are_equal, is_formula, same_spelling
from mstar.grading.lists import split_items
from mstar.grading.numbers import NumberReader
from mstar.grading.plain_text import YES_OR_NO, clean_latex, fold, normalise, strip_markup
from mstar.types import AnswerIs, Prompt

_NAME: Final = r"(?:(?:the\s+)?(?:options?|choices?|answer|letter|point|label)\b|选项?)"
# "(C)", "C.", "option C:", "C" before a text.
_LABEL: Final = re.compile(
    rf"(?i)(?:{_NAME}\s*(?:letter\s*)?:?\s*)?(?:[(\[{{<]\s*(?P<bracketed>[A-Za-z])\s*(?:[)\]}}>]|$)"
    r"|(?P<delimited>[A-Za-z])\s*[).:](?!\w\.)|(?P<bare>[A-Za-z])(?![\w'+*/^]|\s*[-=]\s*>))"
)
# "145° (C)", "72 degrees (option B)", "145°, option C"
_BEHIND: Final = re.compile(rf"(.+?)(?:\s*[(\[]\s*(?:{_NAME}\s+)?|,\s*即?{_NAME}\s+)((?-i:[A-Z]))[)\]]?", re.IGNORECASE)
_LONE_LETTER: Final = re.compile(r"(?<![\w'])[A-Z](?![\w'])")
# What takes an option back, or names another beside it.
_DENIAL: Final = re.compile(
    r"(?i)\b(?:not|never|wrong|incorrect|false|except|but|or|nor|neither|too|cannot|if|fails?|maybe|possibly|could|might"
    r"|(?:rul|exclud|eliminat)ed)\b|^(?:[=<>→⇒/]|\w+n't\b)|或"
)
# 5:19 is compared as 5/19.
_RATIO: Final = re.compile(r"(?<![\d:.])(\d+)\s*:\s*(\d+)(?![\d:.])")
_EDGES: Final = " \t\n.:,;*\"'`$。、"
_LETTER_SEPARATOR: Final = re.compile(r"(?i)\b(?:and|options?|choices?)\b|[\s,;/&+、。.()\[\]{}\"'*和与选项]")
_MAX_LENGTH: Final = 1200


class _Options:
    """The options of one question; those with the same text are one, and the first of them stands for all."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.exact = [" ".join(choice.split()) for choice in choices]
        self.count = len(choices) or 26
        letters = [chr(ord("A") + index) for index in range(len(choices))]
        self.are_letters = self.exact == letters
        # The same in another order, as capitals, or small and maybe in brackets.
        labels = [choice.strip("()").upper() if choice.islower() else choice for choice in self.exact]
        self.are_shuffled_letters = sorted(labels) == letters != labels
        self._folded = [_fold(choice) for choice in self.exact]
        self._spelled = [same_spelling(normalise(choice)) for choice in self.exact]
        self._numbers = [NumberReader(_RATIO.sub(r"\1/\2", choice), Prompt("", "")) for choice in self.exact]
        self._formulas = [normalise(choice) if is_formula(normalise(choice)) else None for choice in self.exact]

    def index(self, letter: str) -> int | None:
        """The option with this letter, in either case; None if there is none."""
        index = ord(letter.upper()) - ord("A")
        return self.first(index) if 0 <= index < self.count else None

    def first(self, index: int) -> int:
        return self.exact.index(self.exact[index]) if self.exact else index

    def letter(self, index: int) -> str:
        return chr(ord("A") + self.first(index))

    def match(self, text: str, formulas: bool = True) -> int | None:
        """The option that a text is: its words, its value, or its formula in any spelling; None for none or several."""
        folded = _fold(text)
        for known, form in ((self.exact, text), (self._spelled, same_spelling(text)), (self._folded, folded)):
            if folded and form in known:
                return known.index(form)
        number = _RATIO.sub(r"\1/\2", text)
        matches = [i for i, own in enumerate(self._numbers) if own.gold is not None and own.read(number) == own.gold]
        if formulas and not matches and is_formula(text):
            matches = [i for i, own in enumerate(self._formulas) if own is not None and are_equal(own, text)]
        return matches[0] if len({self._folded[i] for i in matches}) == 1 else None

    def allows(self, index: int, text: str) -> bool:
        """Whether a text behind an option's letter can be a longer way to say its text: it names no other option."""
        folded = f" {_fold(text)} "
        if self.exact and self._numbers[index].gold is not None and any(char.isdigit() for char in folded):
            return False
        others = [own for own in self._folded if own and own not in self._folded[index]]
        forms = (" {},", " and {} ", " and ({})") if self.are_letters else (" {} ", " {},")  # "(A) a > b"
        return not any(form.format(own) in folded for own in others for form in forms)


def _fold(text: str) -> str:
    return fold(clean_latex(strip_markup(normalise(text))))


class ChoiceReader(AnswerReader):
    """Reads answers that are one of several options, by letter or text; two options with one text are one answer.

    A single letter is an option's letter, unless the options are those very letters in another order and the gold
    answer is not said to be one: then it is an option's text.

    Args:
        answer: The gold answer, an option's letter, text or index, or None.
        choices: The options' texts; without any, only letters can be read.
        answer_is: What the gold answer is; None lets its own form decide.
    """

    def __init__(self, answer: str | None, choices: tuple[str, ...], answer_is: AnswerIs | None = None) -> None:
        self._options = _Options(choices)
        self._options.are_shuffled_letters &= answer_is is not AnswerIs.LETTER
        index = None if answer is None else self._read_gold(" ".join(answer.split()), answer_is)
        self.gold = None if index is None else self._options.letter(index)

    def read(self, text: str) -> str | None:
        """The letter of the option that a text is; see the interface."""
        index = self._find(" ".join(strip_markup(normalise(text[:_MAX_LENGTH])).split()))
        return None if index is None else self._options.letter(index)

    def _read_gold(self, answer: str, answer_is: AnswerIs | None) -> int | None:
        options = self._options
        if answer_is in (AnswerIs.INDEX0, AnswerIs.INDEX1):
            index = int(answer) - (answer_is is AnswerIs.INDEX1) if answer.isdecimal() else -1
            return options.first(index) if 0 <= index < options.count else None
        if answer_is is not AnswerIs.LETTER:
            return options.exact.index(answer) if answer in options.exact else self._find(answer)
        label = _LABEL.fullmatch(answer.rstrip("."))
        return None if label is None else options.index(label[label.lastindex or 0])

    def _find(self, text: str) -> int | None:
        options = self._options
        bare = clean_latex(text).strip(_EDGES).removesuffix("选项").rstrip()
        label = _LABEL.match(bare)
        if label is None and (behind := _BEHIND.fullmatch(bare)) is not None:
            bare = f"({behind[2]}) {behind[1]}"
            label = _LABEL.match(bare)
        named = options.index(label[label.lastindex or 0]) if label is not None else None
        # Of (c), (a), (b) "(b)" is the option of that text, and "B" the one of that letter; of C, A, B "B" is the text.
        if options.are_shuffled_letters and (said := bare if bare in options.exact else bare.upper()) in options.exact:
            return options.exact.index(said)
        whole = label is not None and label.end() == len(bare)
        # "Point C" is the option of that text, whichever letter it has.
        if whole and named is not None and (len(bare) < 4 or options.match(bare, formulas=False) is None):
            return named
        if (index := self._match(text, bare, formulas=named is None)) is not None:
            return index
        if label is None or named is None:
            return None
        return self._read_labelled(named, bare[label.end() :].strip(), label["bare"] is not None)

    def _match(self, *texts: str, formulas: bool = True) -> int | None:
        """The option that the first of several readings is that is any, or the yes or no that the last begins with."""
        opening = YES_OR_NO.match(texts[-1])
        readings = texts if opening is None else (*texts, opening[1])
        return next((index for text in readings if (index := self._options.match(text, formulas)) is not None), None)

    def _read_labelled(self, named: int, rest: str, bare: bool) -> int | None:
        """The option with a letter, where the text behind the letter is its own, or at least no other one's."""
        # A minus is part of the text, a dash is not.
        index = self._match(rest.removeprefix("- ").strip(_EDGES + "()[]"), rest.strip(_EDGES))
        if index is not None:
            return named if index == named else None
        # "(B) The population of hawks would shrink": more words than the option has, and no other option.
        other = set(_LONE_LETTER.findall(rest)) - {self._options.letter(named)}
        if bare or other or _DENIAL.search(rest) or not self._options.allows(named, rest):
            return None
        return named


class MultiSelectReader(AnswerReader):
    """Reads answers that are several options, such as ``A,C``, ``AC`` or a JSON list, in any order."""

    def __init__(self, answer: str | None, choices: tuple[str, ...], answer_is: AnswerIs | None = None) -> None:
        self._one = ChoiceReader(None, choices, answer_is)
        indices = answer_is in (AnswerIs.INDEX0, AnswerIs.INDEX1)
        parts = [] if answer is None else split_items(answer.replace(" ", ",")) if indices else _split(answer)
        self.gold = _join([ChoiceReader(part, choices, answer_is).gold for part in parts])

    def read(self, text: str) -> str | None:
        """The letters of the options that a text lists; see the interface."""
        return _join([self._one.read(part) for part in _split(text[:_MAX_LENGTH])])


def _split(text: str) -> list[str]:
    """Letters, which need no separator between them, or texts."""
    text = clean_latex(strip_markup(normalise(text))).strip()
    letters = _LETTER_SEPARATOR.sub("", text)
    alone = letters.isascii() and letters.isalpha() and letters.isupper() and len({*letters}) == len(letters)
    return [*letters] if alone else split_items(text)


def _join(letters: list[str | None]) -> str | None:
    named = sorted({letter for letter in letters if letter is not None})
    return ", ".join(named) if named and None not in letters else None
