"""A yes or no that is given as a statement: the question's words, affirmed, denied or turned into their opposite."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Restatement"]

_WORD: Final = re.compile(r"[^\W_]+(?:['.-][^\W_]+)*")
# fmt: off
_QUESTION_START: Final = frozenset((
    "is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would",
))
_IGNORED: Final = _QUESTION_START | {
    "a", "an", "the", "there", "any", "be", "been", "being", "then", "than", "that", "of", "in",
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
_CLAUSE_END: Final = re.compile(r"[,.;:!?]\s|[.!]?$|\s(?=(?:because|since|as|in|on|from|of|among|according)\s)")
_BRACKETS: Final = re.compile(r"\([^()]*\)")
_MAX_LENGTH: Final = 600


class Restatement:
    """Tells whether a statement affirms or denies a question.

    The statement must have the question's words in the question's order; auxiliary verbs, articles and the like may
    differ. Nothing else is an answer: a statement about something else affirms nothing.

    Args:
        question: The question; only what begins with an auxiliary verb, such as "Is A larger than B?", can be restated.
    """

    def __init__(self, question: str) -> None:
        asked = re.split(r"[.!\n]\s*", question.strip().partition("?")[0])[-1] if question else ""
        self._has_brackets = "(" in asked
        words = _WORD.findall(asked[:_MAX_LENGTH].casefold().replace("’", "'"))
        self._words = _content(words) if words and words[0] in _QUESTION_START and "or" not in words else []

    def read(self, statement: str) -> bool | None:
        """True for yes, False for no, None for a text that does not restate the question."""
        if len(self._words) < 2:
            return None
        statement = statement[:_MAX_LENGTH] if self._has_brackets else _BRACKETS.sub("", statement[:_MAX_LENGTH])
        for end in [match.start() for match in _CLAUSE_END.finditer(statement)]:
            words = _WORD.findall(statement[:end].casefold())
            negations = sum(word in _NEGATIONS for word in words)
            content = _content([word for word in words if word not in _NEGATIONS])
            if len(content) > len(self._words):
                return None
            if len(content) < len(self._words) or negations > 1:
                continue
            turned = [_turns(*pair) for pair in zip(self._words, content, strict=True)]
            if None not in turned and sum(map(bool, turned)) + negations <= 1:
                return not (any(turned) or negations)
        return None


def _content(words: list[str]) -> list[str]:
    return [word for word in words if word not in _IGNORED]


def _turns(asked: str, stated: str) -> bool | None:
    """Whether a word is the opposite of the asked one; None if it is another word altogether."""
    if asked.removesuffix("s") == stated.removesuffix("s"):
        return False
    if asked not in _MEANINGS or stated not in _MEANINGS:
        return None
    (pair, side), (other_pair, other_side) = _MEANINGS[asked], _MEANINGS[stated]
    return side != other_side if pair == other_pair else None
