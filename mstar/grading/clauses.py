"""Which clause of a sentence states its answer: neither a condition before it nor the numbers that lead up to it."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "added_clause",
    "answering_clauses",
    "coordinated",
    "shared_words",
    "speaks_of_second",
    "without_premise",
]

_RESULT: Final = re.compile(
    r"(?:[,;]?\s*(?:and\s+)?\b(?:so|thus|therefore|hence|leaves|meaning|for a total of|that is|i\.e\.|in other words|"
    r"which (?:means|leaves|gives|adds up to|totals)|"
    r"(?:add|subtract|multiply|divid|halv|doubl)ing\b[^.;,]{0,40}\bgives)\b"
    r"|,\s*at\b(?=\s+[-$]?\d)|,\s*(?:leaving|giving|resulting in)\b|[,。]?\s*(?:得|则|故|所以|因此|∴)),?\s*"
    r"(?:that\s+|(?:us|him|her|them)\s+(?:with\s+)?)?",
    re.IGNORECASE,
)
_FIRST_CLAUSE: Final = re.compile(r"([^,;]{10,200})[,;]\s+(?:(?:and|so|with|then)\s+)?")
_FIGURE: Final = re.compile(r"\d")
_PREMISE: Final = 5
# What such a clause adds may be the answer where the rest of the sentence states none.
_ADDED: Final = re.compile(r",\s*which (?:is|equals|makes|comes to)\s+", re.IGNORECASE)
_COORDINATED: Final = re.compile(
    r",?\s+(?:and|but|while|whereas)\s+(?=\D)|;\s+|,\s+which (?:means|implies) (?:that )?"
    r"|,\s+(?=[∠△A-Za-z ]{1,12}\s?=)",
    re.IGNORECASE,
)
_VERB: Final = re.compile(
    r"=|\b(?:is|are|was|were|has|have|had|equals?|gives?|makes?|costs?|measures|weighs|dropped|drops|fell|rose|grew|covers|"
    r"reach(?:es|ed)|contains?|shows?|paid|sold|spans?)\b",
    re.IGNORECASE,
)
# "leaving 37.5 % for the rest"
_REST: Final = re.compile(r"\b(?:for|to) the (?:rest|others?)\b", re.IGNORECASE)
_SECOND: Final = re.compile(
    r"\b(?:second|third|2nd|3rd)[- ](?:highest|largest|greatest|tallest|longest|most|lowest|smallest)\b"
    r"|\bcomes second\b",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"\w+")
_COMMON: Final = frozenset(
    ("the", "a", "an", "is", "are", "of", "in", "and", "to", "what", "how", "many", "much", "for")
)
_CONDITION: Final = re.compile(
    r"\W*(?:so\b,?\s*)?(?:after|among|when|if|since|because|as|given|with|by|once|before|while|although|out of|of|in|"
    r"on|at|for|from|based on|according to|[a-z]+ing)\b[^,;]{0,200}[,;]\s+(?:and\s+[^,;]{0,200}[,;]\s+)?(?:then\s+)?",
    re.IGNORECASE,
)
# "There are not six but seven."
_NOT_BUT: Final = re.compile(r"\bnot\b(?! only)[^,.;]{1,40}?,?\s+but\s+", re.IGNORECASE)


def answering_clauses(sentence: str) -> list[str]:
    """The parts of a sentence that may state its answer, the most telling one first, the whole sentence last.

    Args:
        sentence: One sentence, in which numbers or the names of options stand.
    """
    sentence = _NOT_BUT.sub("", sentence, count=1)
    found = []
    results = list(_RESULT.finditer(sentence))
    if results and results[-1].start() > 0 and not _REST.search(sentence, results[-1].end()):
        found.append(sentence[results[-1].end() :])
    condition = _CONDITION.match(sentence)
    if condition is not None:
        found.append(sentence[condition.end() :])
    return [*found, sentence]


def coordinated(clause: str) -> list[str]:
    """The parts of "the sum is 8 and the product is 15"; one that has no verb is no clause."""
    parts = _COORDINATED.split(clause)
    return parts if all(_VERB.search(part) for part in parts) else [clause]


def shared_words(clause: str, question: str) -> int:
    """How many words of a question a clause has."""
    return len(_words(clause) & _words(question))


def without_premise(sentence: str, question: str) -> str:
    """A sentence without a first clause that only repeats what the question says; as it is if nothing states more."""
    first = _FIRST_CLAUSE.match(sentence)
    if first is None or not question:
        return sentence
    words = _WORD.findall(first[1].casefold())
    known = set(_WORD.findall(question.casefold()))
    repeats = len(words) >= _PREMISE and any(word.isdigit() for word in words) and known.issuperset(words)
    return sentence[first.end() :] if repeats and _FIGURE.search(sentence, first.end()) else sentence


def speaks_of_second(sentence: str, question: str) -> bool:
    """Whether a sentence tells of the second highest and the like, where the question does not ask for it."""
    return _SECOND.search(sentence) is not None and _SECOND.search(question) is None


def added_clause(sentence: str) -> str:
    """What ", which is" adds to a sentence; empty without it."""
    found = _ADDED.search(sentence)
    return "" if found is None else sentence[found.end() :]


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold())) - _COMMON
