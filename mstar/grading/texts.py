"""Free-text answers: yes and no, words, ratios, dates, telephone numbers, and formulas."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from mstar.grading.algebra import equivalent, is_algebra
from mstar.grading.clauses import answering_clauses, coordinated, shared_words, speaks_of_second
from mstar.grading.latex import clean_latex
from mstar.grading.literals import Literal, find_literals, read_literal, same_literal
from mstar.grading.normalisation import fold, normalise
from mstar.grading.quantities import Quantity, parse_quantity
from mstar.grading.reader import REFUSED, AnswerReader
from mstar.grading.restatement import Restatement
from mstar.grading.sentences import without_explanation

__all__ = ["TextReader"]

_YES_NO: Final = {
    **dict.fromkeys(("yes", "yeah", "true", "是", "是的", "对"), "yes"),
    **dict.fromkeys(("no", "nope", "false", "否", "不是", "错"), "no"),
}
_VERDICT: Final = re.compile(
    r"\W*(yes|no|true|false|yeah|nope|是的|不是|是|否|对|错)(?![\w'])(?!\s*[.:]?\s*\d)"
    r"(?!\s+(?:doubt|question|wonder|matter|problem)\b)",
    re.IGNORECASE,
)
_VERDICT_END: Final = re.compile(
    r"(?:\b(?:is|be|answer|think|say|believe|guess|so|thus|hence|therefore|:),?\s+|=\s*|^)[\"']?(yes|no|true|false)[\"']?\W*$",
    re.IGNORECASE,
)
_SO: Final = re.compile(r"\bso,?\s+(yes|no)(?=\s*[,.;:!])", re.IGNORECASE)
_BOTH: Final = re.compile(
    r"\b(?:yes|true)\s*(?:or|/|and)\s*(?:no|false)\b|\b(?:no|false)\s*(?:or|/|and)\s*(?:yes|true)\b"
    r"|\byes\b.{0,60}\bif\b.{0,100}\bno\b.{0,40}\bif\b",
    re.IGNORECASE,
)
_COPULA: Final = re.compile(
    r"\b(?:is|are|was|were|be|called|named|shows?|says?|reads?|known as|has|have|looks like|appears to be|"
    r"(?:it|that|he|she|this)'s)\b\s*:?\s+|=\s*|:\s+|是|为",
    re.IGNORECASE,
)
_HEDGED: Final = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|cannot|can't|unknown|unclear|unable|might|could|(?-i:may))\b|或",
    re.IGNORECASE,
)
_NEGATED: Final = re.compile(r"\b(?:not|n't|neither|never|no)\b", re.IGNORECASE)
_FILLER: Final = frozenset(
    ("the", "a", "an", "of", "in", "on", "at", "it", "is", "are", "was", "its", "this", "that", "to", "be", "and",
     "clearly", "definitely", "certainly", "obviously", "simply")
)  # fmt: skip
_WORD: Final = re.compile(r"[^\W_]+(?:[.'/:-][^\W_]+)*|\S")
_WRAPPED: Final = re.compile(r"[:\n]|\\f?box|</?\w+>")
_ASSIGNED: Final = re.compile(r"(?<![\w^])([A-Za-z])\s*=\s*([^=]+)")
# "Tom is taller than Jerry", where the question is who is taller.
_SUBJECT: Final = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?(.{1,60}?)\s+(?:is|are|was|were|has|have)\s+(?:the\s+|an?\s+)?(\w+)",
    re.IGNORECASE,
)
# "I'm not an expert, but"
_DISCLAIMER: Final = re.compile(r"^I(?:'m| am| do|'d)? (?:not|no)\b[^,]{0,60},\s*but\s+", re.IGNORECASE)
_JOINED: Final = re.compile(r"(?<=[a-z])-(?=[a-z])")
_PREPOSITION: Final = re.compile(r"\b(?:on|in|at)\s+")
_SUBSCRIPT: Final = re.compile(r"(?<=[A-Za-z])_\{?(\d+)\}?")
_MAX_SPAN: Final = 500


class TextReader(AnswerReader):
    """Reads answers that are words.

    Texts are equal without regard to case, articles and punctuation; words that only repeat the question may surround
    the answer. Telephone numbers, dates, times and ratios are compared as such and never calculated with. Formulas that
    differ as texts go to math-verify.

    Args:
        answer: The gold answer, or None.
        question: The question, or an empty text.
    """

    def __init__(self, answer: str | None, question: str = "") -> None:
        self._raw = "" if answer is None else _clean(answer)
        self.gold = fold(self._raw) or None if answer is not None else None
        self._verdict = _YES_NO.get(self.gold or "")
        self._literal = read_literal(self._raw)
        # "x = 5" is the number, as a value of that variable.
        assigned = _ASSIGNED.fullmatch(self._raw)
        value = parse_quantity(assigned[2]) if assigned is not None else None
        self._solution = (assigned[1], value) if assigned is not None and value is not None else None
        self._words = _words(self._raw)
        self._content = [word for word in self._words if word not in _FILLER] or self._words
        self._restatement = Restatement(question if self._verdict is not None else "")
        self._question = question
        question_words = self._question_words = frozenset(_words(question))
        # In "is it red or blue" the words of the question are the answers.
        offers_answers = not question_words.isdisjoint({"or", "than", "among"}) or ":" in question
        self._known = _FILLER | (frozenset() if offers_answers else question_words - {"not", "no"})

    def read(self, span: str) -> str | None:
        """The answer that a sentence states; see the interface."""
        text = _clean(span)
        if not text:
            return None
        if self._verdict is not None:
            return self._read_verdict(text)
        if self._is_gold(text):
            return self.gold
        if len(text) > _MAX_SPAN:
            return None
        if speaks_of_second(text, self._question):
            return REFUSED
        # The whole sentence is the last of these, without "not orange but".
        stated = _DISCLAIMER.sub("", answering_clauses(without_explanation(text))[-1])
        if _HEDGED.search(stated) and not _HEDGED.search(self._raw):
            return REFUSED
        parts = [] if self._solution is not None and _ASSIGNED.search(stated) else self._parts(stated)
        for part in dict.fromkeys((stated, *parts)):
            if self._is_gold(part):
                return self.gold
        subject = _SUBJECT.match(stated)
        if subject is not None and subject[2].casefold() in self._question_words and self._is_gold(subject[1]):
            return self.gold
        clauses = coordinated(stated)
        shared = [shared_words(clause, self._question) for clause in clauses]
        if len(clauses) > 1 and shared.count(max(shared)) == 1:
            return self.read(clauses[shared.index(max(shared))])
        short = self._parts(stated)
        return fold(short[0] if short else stated) or None

    def read_alone(self, span: str) -> str | None:
        """The answer, where the span is nothing but a few words."""
        text = _clean(span)
        if self._verdict is not None:
            match = _VERDICT.fullmatch(text.rstrip(".!。 "))
            return self._name(match[1]) if match else None
        if self.gold is not None and self._is_gold(text):
            return self.gold
        bare = len(text.split()) <= 5 and not _COPULA.search(text) and not _WRAPPED.search(text)
        return fold(text) or None if bare and not _HEDGED.search(text) else None

    def read_opening(self, sentence: str) -> str | None:
        """The yes or no that a sentence opens with."""
        match = _VERDICT.match(sentence) if self._verdict is not None else None
        return self._name(match[1]) if match and not sentence[match.end() :].strip().startswith("or ") else None

    def _read_verdict(self, text: str) -> str | None:
        if _BOTH.search(text):
            return REFUSED
        match = _VERDICT.match(text) or _VERDICT_END.search(text[-200:]) or _SO.search(text)
        if match is not None:
            return self._name(match[1])
        affirmed = self._restatement.read(text)
        return None if affirmed is None else self._name("yes" if affirmed else "no")

    def _is_literal(self, gold: Literal, text: str) -> bool:
        if (whole := read_literal(text.strip(" ."))) is not None:
            return same_literal(gold, whole)
        if gold[0] == "ratio" and (share := parse_quantity(text)) is not None:
            return share.value == Fraction(int(gold[1]), int(gold[2]) or 1)
        if _HEDGED.search(text) or _NEGATED.search(text):
            return False
        found = find_literals(text, gold[0])
        return len(found) == 1 and same_literal(gold, found.pop())

    def _is_solution(self, gold: tuple[str, Quantity], text: str) -> bool:
        assigned = list(_ASSIGNED.finditer(text))
        if len(assigned) > 1 or (assigned and assigned[0][1] != gold[0]):
            return False
        value = parse_quantity(assigned[0][2] if assigned else text)
        return value is not None and value.value == gold[1].value

    def _name(self, word: str) -> str:
        verdict = _YES_NO[word.casefold()]
        return self.gold or verdict if verdict == self._verdict else verdict

    def _parts(self, text: str) -> list[str]:
        """What follows the last copula of a sentence, and what precedes a comma in it."""
        copulas = list(_COPULA.finditer(text))
        tail = text[copulas[-1].end() :] if copulas and copulas[-1].end() < len(text) else text
        parts = [
            tail,
            tail.partition(", ")[0],
            re.split(r"[.!?]\s", tail, maxsplit=1)[0],
            tail.partition(" (")[0],
        ]
        if not _NEGATED.search(text):
            parts.append(_PREPOSITION.split(tail)[-1])
        return [part for part in parts if part.strip()]

    def _is_gold(self, text: str) -> bool:
        if self.gold is None:
            return False
        if _JOINED.sub(" ", fold(text)) == _JOINED.sub(" ", self.gold):
            return True
        if len(text) > _MAX_SPAN:
            return False
        if self._literal is not None:
            return self._is_literal(self._literal, text)
        if self._solution is not None:
            return self._is_solution(self._solution, text)
        if is_algebra(self._raw) and is_algebra(text):
            return equivalent(self._raw, text)
        words = _words(text)
        if _NEGATED.search(text) and not _NEGATED.search(self._raw):
            return False
        if not self._words or (_HEDGED.search(text) and not _HEDGED.search(self._raw)):
            return False
        kept = set(self._words)
        rest = [w for w in words if w in kept or not (w in self._known or w.removesuffix("s") in self._known)]
        return [word for word in rest if word in self._content or word not in _FILLER] == self._content


def _clean(text: str) -> str:
    cleaned = _SUBSCRIPT.sub(r"\1", clean_latex(normalise(text[:4000])))
    if cleaned.count("$") % 2 == 0:
        cleaned = cleaned.replace("$", "")
    return cleaned.strip().strip("`\"'").rstrip(" .")


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text[:4000].casefold()) if any(char.isalnum() for char in word)]
