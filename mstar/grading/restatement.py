"""A yes or no that is given as a statement: the question's words, affirmed, denied or turned into their opposite."""

from __future__ import annotations

import re
from typing import Final

from mstar.grading.clauses import answering_clauses
from mstar.grading.sentences import without_explanation

__all__ = ["Restatement"]

_WORD: Final = re.compile(r"[^\W_]+(?:['.-][^\W_]+)*")
# fmt: off
_QUESTION_START: Final = frozenset((
    "is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would",
))
_IGNORED: Final = _QUESTION_START | {
    "a", "an", "the", "there", "any", "be", "been", "being", "then", "than", "that", "this", "these", "those",
    "of", "in", "it", "they",
}
_NEGATIONS: Final = frozenset((
    "not", "no", "never", "isn't", "aren't", "wasn't", "weren't", "doesn't", "don't", "didn't", "hasn't", "cannot",
    "can't",
))
# fmt: on
_OPPOSITES: Final = (
    (("greater", "larger", "bigger", "more", "higher"), ("smaller", "less", "fewer", "lower")),
    (("taller", "longer"), ("shorter",)),
    (("maximum", "highest", "largest", "greatest", "most"), ("minimum", "lowest", "smallest", "least", "fewest")),
    (("even",), ("odd",)),
    (("smoothest",), ("roughest",)),
)
_MEANINGS: Final[dict[str, tuple[int, int]]] = {
    word: (pair, side) for pair, sides in enumerate(_OPPOSITES) for side, words in enumerate(sides) for word in words
}
_CLAUSE_END: Final = re.compile(
    r"[,.;:!?]\s|[.!]?$|\s(?=(?:because|since|as|in|on|from|of|among|according|compared)\s)"
)
_BRACKETS: Final = re.compile(r"\([^()]*\)")
_CONCLUDING: Final = re.compile(r"\W*(?:so|therefore|thus|hence|in conclusion|overall)\b,?\s*", re.IGNORECASE)
_ENOUGH: Final = re.compile(r"((?:\bnot|n't) (?:have |be )?|\bin(?=sufficient))?(?:enough|sufficient)\b", re.IGNORECASE)
# "The water in the trough is half full" says more of its subject than the question.
_ATTRIBUTE: Final = re.compile(
    r"\s(?:in|on|of|at|from|with)\s+(?:the|this|a|an)\s+[\w ]{1,20}?(?=\s+(?:is|are|was|were|has|have|does|do)\b)",
    re.IGNORECASE,
)
# Of "Is this a periodic function?" only what follows is asserted: "f(x) = 1/x is not a periodic function".
_POINTING: Final = re.compile(
    r"(?:is|are|was|were) (?:this|it|that|these|those|they)\b(?! \w+ \w+ (?:than|as)\b)", re.IGNORECASE
)
_LABELLED: Final = re.compile(r"\bthe \w+ (?:label?led|named|called|marked)\s+", re.IGNORECASE)
# "The highest is red" for "Is red the highest?".
_TURNED: Final = re.compile(r"^(.{1,100}?) (?:is|are|was|were) (.{1,100}?)[.!]?$", re.IGNORECASE)
_THAN: Final = re.compile(r"\bthan\b(?: (?:that|the (?:value|number|one)) of\b)?", re.IGNORECASE)
_COPULA: Final = re.compile(r".*\b(?:is|are|was|were)\b", re.IGNORECASE)
# What is supposed, only possible, or taken back affirms nothing.
_UNCERTAIN: Final = re.compile(
    r"\b(?:would|could|might|may(?! \d)|hardly|barely|scarcely|mistake|more to have|left over|alone)\b|\bif\b(?! x\b)"
    r"|,\s+but\b",
    re.IGNORECASE,
)
_PLURAL: Final = re.compile(r"(?:e?s)+$")
_MAX_LENGTH: Final = 600


class Restatement:
    """Tells whether a statement affirms or denies a question.

    The statement must have the question's words in the question's order; auxiliary verbs, articles and the like may
    differ. On either side of "than" the order does not matter, a comparison may leave out what specifies its sides, and
    what is asked to be enough need only be called so. Nothing else is an answer: a statement about something else
    affirms nothing.

    Args:
        question: The question; only what begins with an auxiliary verb, such as "Is A larger than B?", can be restated.
    """

    def __init__(self, question: str) -> None:
        asked = re.split(r"[.!\n]\s*", question.strip().partition("?")[0])[-1] if question else ""
        self._has_brackets = "(" in asked
        words = _WORD.findall(asked[:_MAX_LENGTH].casefold().replace("’", "'"))
        self._words = _content(words) if words and words[0] in _QUESTION_START and "or" not in words else []
        self._uncertain = _UNCERTAIN.search(asked) is not None
        self._points = _POINTING.match(asked) is not None
        sides = [set(_content(_WORD.findall(side.casefold()))) for side in _THAN.split(asked)]
        self._sides = sides if self._words and all(sides) else []
        self._asks_enough = bool(self._words) and len(_ENOUGH.findall(asked)) == 1

    def read(self, statement: str) -> bool | None:
        """True for yes, False for no, None for a text that does not restate the question."""
        if len(self._words) < (1 if self._points else 2):
            return None
        if _UNCERTAIN.search(statement[:_MAX_LENGTH]) and not self._uncertain:
            return None
        statement = statement[:_MAX_LENGTH] if self._has_brackets else _BRACKETS.sub("", statement[:_MAX_LENGTH])
        if self._asks_enough:
            said = {bool(match[1]) for match in _ENOUGH.finditer(statement)}
            return not said.pop() if len(said) == 1 else None
        for clause in answering_clauses(_CONCLUDING.sub("", statement, count=1)):
            pointed = _COPULA.sub("", clause.partition(". ")[0]) if self._points else clause
            clause = _LABELLED.sub("", clause)
            turned = _TURNED.sub(r"\2 \1", clause.partition(",")[0])
            for stated in dict.fromkeys((clause, _ATTRIBUTE.sub("", clause, count=1), pointed, turned)):
                if (found := self._read_clause(stated)) is not None:
                    return found
            if (found := self._read_reordered(without_explanation(clause))) is not None:
                return found
        return None

    def _read_clause(self, statement: str) -> bool | None:
        for end in [match.start() for match in _CLAUSE_END.finditer(statement)]:
            words = _WORD.findall(statement[:end].casefold())
            negations = sum(word in _NEGATIONS for word in words)
            content = _content([word for word in words if word not in _NEGATIONS])
            if len(content) > len(self._words):
                return None
            asked = self._words if len(content) == len(self._words) else self._shorten(content)
            if len(asked) != len(content) or negations > 1:
                continue
            turned = [_turns(*pair) for pair in zip(asked, content, strict=True)]
            if None not in turned and sum(map(bool, turned)) + negations <= 1:
                return not (any(turned) or negations)
        return None

    def _read_reordered(self, statement: str) -> bool | None:
        """Of "the value of A is higher than that of B" the same as of "A has a higher value than B"."""
        sides = [set(_content(_WORD.findall(side.casefold()))) for side in _THAN.split(statement)]
        if len(sides) != 2 or len(self._sides) != 2:
            return None
        negated = any(side & _NEGATIONS for side in sides)
        sides = [side - _NEGATIONS for side in sides]
        if sides == self._sides:
            return not negated
        turned = [{_opposite(word, sides[0]) for word in self._sides[0]}, self._sides[1]]
        return None if sides != turned else negated

    def _shorten(self, stated: list[str]) -> list[str]:
        """The question's words that a shorter comparison repeats in their order; it must have some of either side."""
        comparing = [i for i, word in enumerate(self._words) if word in _MEANINGS]
        if len(comparing) != 1 or not stated or stated[0] != self._words[0]:
            return []
        rest = iter(self._words)
        kept = [next((word for word in rest if _turns(word, one) is not None), "") for one in stated]
        at = kept.index(self._words[comparing[0]]) if self._words[comparing[0]] in kept else len(kept)
        sides = (kept[1:at], kept[at + 1 :])
        # "There are more cats" of more cats than dogs.
        whole = any(sides) if comparing[0] == 0 else all(sides)
        return kept if "" not in kept and whole and len(kept) * 2 > len(self._words) else []


def _content(words: list[str]) -> list[str]:
    return [word for word in words if word not in _IGNORED]


def _opposite(word: str, stated: set[str]) -> str:
    """The stated word that is the opposite of an asked one; the asked one without such a word."""
    return next((other for other in stated if _turns(word, other)), word)


def _turns(asked: str, stated: str) -> bool | None:
    """Whether a word is the opposite of the asked one; None if it is another word altogether."""
    if _PLURAL.sub("", asked) == _PLURAL.sub("", stated):
        return False
    if asked not in _MEANINGS or stated not in _MEANINGS:
        return None
    (pair, side), (other_pair, other_side) = _MEANINGS[asked], _MEANINGS[stated]
    return side != other_side if pair == other_pair else None
