"""Free-text answers: yes and no, words, dates, ratios, and formulas."""

from __future__ import annotations

import re
from datetime import datetime
from fractions import Fraction
from typing import Final

from dateutil import parser as dates
from rapidfuzz.distance import Levenshtein

from mstar.grading.base import AnswerReader
from mstar.grading.formulas import are_equal, is_formula
from mstar.grading.lists import own_form
from mstar.grading.plain_text import SUBSCRIPT, YES_OR_NO, clean_latex, fold, normalise
from mstar.grading.units import canonical_unit

_YES_NO: Final = {
    **dict.fromkeys(("yes", "true", "是", "是的", "对", "正确"), "yes"),
    **dict.fromkeys(("no", "false", "否", "不是", "错", "错误"), "no"),
}
_SAME: Final = {
    **dict.fromkeys(("no solutions", "no real solution", "no real solutions", "no solution exists"), "no solution"),
    **dict.fromkeys(("无解", "∅", "empty set", "{}", "空集"), "no solution"),
    "dne": "does not exist", "不存在": "does not exist", "infinite": "infinitely many", "无数个": "infinitely many",
}  # fmt: skip
# A sentence is more than an answer.
_STATES: Final = re.compile(r"\b(?:is|are|was|were|has|have|says?|shows?|reads?)\b", re.IGNORECASE)
_FILLER: Final = frozenset(
    ("the", "a", "an", "of", "in", "on", "at", "it", "is", "are", "was", "its", "it's", "this", "that", "to", "be",
     "and", "has", "have", "clearly", "definitely", "simply")
)  # fmt: skip
_WORD: Final = re.compile(r"(?:(?<![\w)])-(?=\d))?[^\W_]+(?:[.'/:-][^\W_]+)*")
_SIGNS: Final = "+-<>≠≤≥≈∥⊥∽∠△→"  # they say something between words and behind them: "AB ∥ CD", "Na+"
# "Area = x(x+3)", "P(2, 3)", "the point (2, 3)"
_NAME: Final = re.compile(
    r"^(?:[A-Za-z ]{1,20}(?:_[\w\\{}]{1,20} ?)?|[a-zA-Z]'?\(\w\) ?)=(?=[^=]+$)"
    r"|^(?:(?:the )?point )?[A-Z]?\s*(?=\([^()]+,[^()]+\)\W*$)"
)
# "1,-3" where all solutions are asked for, which have no order.
_NUMBERS: Final = re.compile(r"-?[\d./]+(?:\s*,\s*-?[\d./]+)+")
_IN_ANY_ORDER: Final = re.compile(
    r"(?is)(?!.*\b(?:system|order|respectively|terms)\b).*(?:\b(?:sol(?:ve|utions?)|roots?|zeros|all)\b|方程|的[解根]|所有)"
)
_RATIO: Final = re.compile(r"(\d{1,9})\s*(?::|to)\s*(\d{1,9})")
# What dateutil is asked about: a month's name with a number, three numbers, a time of day.
_MOMENT: Final = re.compile(
    r"(?i)(?=.*\d)(?:.*\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b.*|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
    r"|\d{1,2}:\d{2}(?::\d{2})?\s*(?:[ap]\.?\s?m\.?)?|\d{1,2}\s*[ap]\.?\s?m\.?)"
)
_DAYS: Final = (datetime(2000, 1, 1), datetime(2001, 2, 2, 1, 1, 1))
_MAX_LENGTH: Final = 1000
_MAX_WORDS: Final = 12


class _Years(dates.parserinfo):  # type: ignore[misc]  # it has no types
    """Two digits of a year as spreadsheets take them, 30 is 1930 and 29 is 2029; dateutil would go by today's year."""

    def convertyear(self, year: int, century_specified: bool = False) -> int:
        return year if year >= 100 or century_specified else year + (1900 if year >= 30 else 2000)


_DATES: Final = dates.parser(_Years())


class TextReader(AnswerReader):
    """Reads answers that are words.

    Texts are equal without regard to case, articles and punctuation, signs aside; words that only repeat the question
    may surround the answer. Dates, times and ratios are compared as such and never calculated with. Formulas that
    differ as texts go to math-verify.
    """

    takes_any_text = True

    def __init__(self, answer: str | None, question: str = "") -> None:
        self._source = "" if answer is None else normalise(answer).strip()
        self._raw = _clean(self._source)
        self._verdict = _YES_NO.get(fold(self._raw))
        self._literal = read_literal(self._raw)
        folded = fold(self._raw)
        is_word = self._literal is not None or self._verdict is not None or folded in _SAME
        several = _NUMBERS.fullmatch(self._raw) is not None and _IN_ANY_ORDER.match(question) is not None
        self._is_formula = not is_word and (several or is_formula(self._source))
        self._unit = canonical_unit(self._raw)
        # A formula with its case, and the sign of a factorial.
        self.gold = (self._raw if self._is_formula else _SAME.get(folded, folded)) or None
        words = _WORD.findall(self._raw.casefold())
        self._words = [word for word in words if word not in _FILLER] or words
        # In "is it red or blue" the words of the question are the answers.
        question_words = frozenset(_WORD.findall(question.casefold()))
        offers = not question_words.isdisjoint({"or", "than", "among"}) or ":" in question
        self._known = _FILLER if offers else _FILLER | (question_words - {"not", "no"})

    def read(self, text: str) -> str | None:
        """The answer, in the gold answer's form if it is that; see the interface."""
        source = normalise(text[:_MAX_LENGTH]).strip()
        cleaned = _clean(source)
        folded = _SAME.get(folded := fold(cleaned), folded)
        if not folded:
            return None
        if self._verdict is not None:
            return self._read_verdict(cleaned)
        if self.gold is not None and self._is_gold(source, cleaned, folded):
            return self.gold
        if len(cleaned.split()) > _MAX_WORDS or "\n" in cleaned or _STATES.search(cleaned):
            return None
        # Where nothing is known of the answer, equal ones have one form, by which they are voted for.
        return own_form(source) if self.gold is None else cleaned if self._is_formula else folded

    def _read_verdict(self, text: str) -> str | None:
        match = YES_OR_NO.match(text.lstrip(" *\"'("))
        verdict = None if match is None else _YES_NO[match[1].casefold()]
        return self.gold if verdict == self._verdict else verdict

    def _is_gold(self, source: str, cleaned: str, folded: str) -> bool:
        # "5!" is no emphatic 5; and the answer may be a unit.
        if (not self._is_formula and folded == self.gold) or canonical_unit(cleaned) == (self._unit or "-"):
            return True
        if self._literal is not None:
            if self._literal[0] == "ratio":
                cleaned = cleaned.replace("/", ":")
            return self._literal == read_literal(cleaned)
        if self._is_formula:
            forms = (source,) if "=" in self._source else (source, _NAME.sub("", source))
            return any(are_equal(self._source, form) for form in dict.fromkeys(forms))
        # Known words say nothing, or only repeat the question.
        words = _WORD.findall(cleaned.casefold())
        said = [w for w in words if w in self._words or self._known.isdisjoint((w, w.removesuffix("s")))]
        # A dash between blanks is no minus.
        signs, own = ([c for c in f" {text} ".replace(" - ", " ") if c in _SIGNS] for text in (cleaned, self._raw))
        return bool(self._words) and said == self._words and signs == own


class SimilarTextReader(AnswerReader):
    """Reads words that may differ from the gold answer a little, as DocVQA's metric allows (ANLS).

    Source: Biten et al. 2019, "Scene Text Visual Question Answering": a distance of half the longer text, or more, is
    none of similarity.
    """

    takes_any_text = True

    def __init__(self, answer: str | None) -> None:
        self.gold = None if answer is None else " ".join(normalise(answer).casefold().split()) or None

    def read(self, text: str) -> str | None:
        """The gold answer, if the text is similar to it, else the text in lower case; see the interface."""
        folded = " ".join(clean_latex(normalise(text[:_MAX_LENGTH])).casefold().split()).rstrip(".")
        if self.gold and folded and 2 * Levenshtein.distance(self.gold, folded) < max(len(self.gold), len(folded)):
            return self.gold
        return None if _STATES.search(folded) else folded or None


def read_literal(text: str) -> tuple[object, ...] | None:
    """What looks like arithmetic and is none: a date, a time of day, a ratio."""
    if len(text) > 40 or not any(char.isdigit() for char in text):
        return None
    if _MOMENT.fullmatch(text) and (moment := _read_moment(text)) is not None:
        return moment
    ratio = _RATIO.fullmatch(text)
    return None if ratio is None else ("ratio", Fraction(int(ratio[1]), int(ratio[2]) or 1))


def _read_moment(text: str) -> tuple[int | None, ...] | None:
    """Year, month, day, hour, minute and second, None for those not said: two days, unlike in all, stand in."""
    try:
        first, second = (_DATES.parse(text, default=day) for day in _DAYS)
    except (ValueError, OverflowError, TypeError):
        return None
    fields = [a if a == b else None for a, b in zip(first.timetuple()[:6], second.timetuple()[:6], strict=True)]
    return tuple(fields if fields[3] is None else [*fields[:4], *(part or 0 for part in fields[4:])])  # 6 pm is 6:00 pm


def _clean(text: str) -> str:
    text = SUBSCRIPT.sub(r"\1", clean_latex(text)).replace("$$", "").replace("//", "∥").replace(" : ", ":")
    return text.strip().strip("`\"'").rstrip(" .")
