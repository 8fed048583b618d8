"""A yes or no that is given as a statement: the question's words, affirmed, denied or turned into their opposite."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["restate"]

_WORD: Final = re.compile(r"[^\W_]+(?:['.-][^\W_]+)*")
# fmt: off
_AUXILIARIES: Final = frozenset((
    "is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would",
))
_IGNORED: Final = _AUXILIARIES | {
    "a", "an", "the", "there", "any", "be", "been", "being", "then", "than", "that", "this", "these", "those", "of",
    "in", "it", "they",
}
_NEGATIONS: Final = frozenset((
    "not", "no", "never", "cannot", "isn't", "aren't", "wasn't", "weren't", "doesn't", "don't", "didn't",
))
# fmt: on
_OPPOSITES: Final = (
    {"greater", "larger", "bigger", "more", "higher", "taller", "longer"},
    {"smaller", "less", "fewer", "lower", "shorter"},
    {"maximum", "highest", "largest", "greatest", "most", "smoothest", "even"},
    {"minimum", "lowest", "smallest", "least", "roughest", "odd"},
)
# "The highest is red" for "Is red the highest?"; "f(x) = 1/x is not periodic" for "Is this periodic?"
_TURNED: Final = re.compile(r"^(.{1,100}?) (?:is|are|was|were) (.{1,100}?)$", re.IGNORECASE)
_POINTING: Final = re.compile(r"(?:is|are|was|were) (?:this|it|that|these|those|they)\b", re.IGNORECASE)
_SUBJECT: Final = re.compile(r"^.*?\b(?:is|are|was|were)\b", re.IGNORECASE)
# "The glass on the table is half full", "The curve labelled red has"
_ATTRIBUTE: Final = re.compile(
    r"\s(?:in|on|at) (?:the|this|a) \w+(?=\s(?:is|are|was|were|has|have)\b)|\bthe \w+ label?led\s", re.IGNORECASE
)


def restate(question: str, clause: str) -> bool | None:
    """Whether a clause affirms (True) or denies (False) a question that begins with an auxiliary verb.

    The clause must have the question's words in the question's order, or with the sides of "is" exchanged; a comparison
    may leave out what specifies its sides, and one word may be turned into its opposite ("smaller" for "larger").
    None if the clause says something else.
    """
    question = re.split(r"[.!\n]\s*", question.strip().partition("?")[0])[-1][:400]
    asked = _WORD.findall(question.casefold())
    if not asked or asked[0] not in _AUXILIARIES or "or" in asked:
        return None
    clause = clause.strip(' .!*"')
    forms = [clause, _ATTRIBUTE.sub(" ", clause), _TURNED.sub(r"\2 \1", clause)]
    forms += [_SUBJECT.sub("", clause)] if _POINTING.match(question) else []
    compared = (_compare(_content(asked), _WORD.findall(form.casefold())) for form in forms)
    return next((found for found in compared if found is not None), None)


def _compare(asked: list[str], said: list[str]) -> bool | None:
    negations = sum(word in _NEGATIONS for word in said)
    said = _content([word for word in said if word not in _NEGATIONS])
    rest = iter(asked)
    pairs = [(next((other for other in rest if _turns(other, word) is not None), ""), word) for word in said]
    turned = [_turns(*pair) for pair in pairs]
    if len(asked) < 2 or None in turned or sum(map(bool, turned)) + negations > 1:
        return None
    # A shorter one must begin alike and compare something with something.
    compares = [index for index, word in enumerate(said) if any(word in words for words in _OPPOSITES)]
    shorter = 2 * len(said) > len(asked) and pairs[0][0] == asked[0] and compares and compares[0] < len(said) - 1
    return not (any(turned) or negations) if len(said) == len(asked) or shorter else None


def _content(words: list[str]) -> list[str]:
    return [word for word in words if word not in _IGNORED]


def _turns(asked: str, said: str) -> bool | None:
    """Whether a word is the opposite of the asked one; None if it is another word altogether."""
    if asked.rstrip("es") == said.rstrip("es"):
        return False
    sides = [index for word in (asked, said) for index, words in enumerate(_OPPOSITES) if word in words]
    return sides[0] != sides[1] if len(sides) == 2 and sides[0] // 2 == sides[1] // 2 else None
