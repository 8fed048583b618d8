"""Sentences, clauses, words that refuse, deny or doubt, and what says a question's words again."""

from __future__ import annotations

import re
from typing import Final

from mstar.grading.commitment import LISTED, NEGATION, SENTENCE_END

REFUSAL: Final = re.compile(
    r"(?i)\b(?:cannot|can't|could not|couldn't|unable to|(?:im|not )possible to|difficult to|hard to) (?:\w+ ){0,3}?"
    r"(?:determine|tell|answer|say|provide|give|find|found|conclude|calculate|compute|solve|identify|select|choose|process|see|view|read|help)d?\b"
    r"|\b(?:not|n't|no|without|lacks?|insufficient|more|additional|further|specific) (?:\w+ ){0,3}?"
    r"(?:information|context|details|data)\b"
    r"|\b(?:sorry|apologi[sz]e)\b|\bnone of the\b[^.]{0,30}\b(?:options|choices|answers)\b"
    r"|\bplease (?:provide|describe|upload|share)\b|无法"
)
DOUBT: Final = re.compile(
    r"(?i)\b(?:could|might|(?-i:may)|maybe|perhaps|possibly|would have been|either|suppose|assum\w+|let|if)\b"
)
_COURTESY: Final = re.compile(r"(?i)\W*(?:I hope|hope this|let me know|please let|feel free|if you have)\b|[^?]*\?\W*$")
_REASON_BEHIND: Final = re.compile(
    r"(?is),?\s+(?:because|since|due to|given that|based on|according to|compared (?:to|with)"
    r"|as (?=(?:it|the|they|this|there|indicated|shown|we|each|both|all|you|a|an)\b))\b.*"
)
_REASON_BEFORE: Final = re.compile(
    r"(?i)^\W*(?:(?:because|since|given that|based on|according to|after|from|in(?! \d)|on|at|using|as|if|when|with"
    r"|for)\b[^,]*,\s*)+"
)
# "Insects, mouse, and cricket" has no "mouse and cricket".
_WORD: Final = re.compile(r"[^\W_]+(?:['.][^\W_]+)*|,")
_ASKED: Final = re.compile(r"(?i)(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would)\b(?!.* or )")
_DENIAL: Final = re.compile(rf"{NEGATION.pattern}|\bno\b")
# "The highest is red" for "Is red the highest?"
_TURNED: Final = re.compile(r"^(.{1,100}?) (?:is|are|was|were) (.{1,100}?)$", re.IGNORECASE)
_OPPOSITES: Final = tuple(
    {word.rstrip("es") for word in words.split()}
    for words in (
        "greater larger bigger more higher taller longer", "smaller less fewer lower shorter",
        "maximum highest largest greatest most smoothest even", "minimum lowest smallest least roughest odd",
    )
)  # fmt: skip
_EMPTY: Final = frozenset((
    "a", "an", "the", "there", "any", "it", "they", "this", "that", "these", "those", "of", "in", "than", "then",
    "also", "is", "are", "was", "were", "be", "been", "being", "do", "does", "did", "has", "have", "had", "can",
    "could", "will", "would", "likely", "how", "many", "what", "which", "question", "answer", "following", "image",
))  # fmt: skip


def split_sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without lists of options, and courtesies and questions at its end."""
    parts = [part.strip() for line in text.splitlines() for part in SENTENCE_END.split(line)]
    sentences = [part for part in parts if part.strip(" *#\t") and len({*LISTED.findall(part)}) < 3]
    while len(sentences) > 1 and _COURTESY.match(sentences[-1]):
        sentences.pop()
    return sentences


def without_reason(sentence: str) -> str:
    """What a sentence states or concludes, without the reason or circumstance that it begins or ends with."""
    return _REASON_BEHIND.sub("", _REASON_BEFORE.sub("", sentence.rpartition(", so ")[2], count=1))


def content_words(text: str) -> list[str]:
    """The words of a text that carry it, in lower case; a plural is its singular."""
    words = _WORD.findall(text[:1].lower() + text[1:])
    # A is a name within a sentence.
    return [word.casefold().rstrip("es") or word for word in words if word == "A" or word.casefold() not in _EMPTY]


def count_shared_words(sentence: str, other: str) -> int:
    """How many words two texts share."""
    return len({*content_words(sentence)} & {*content_words(other)} - {","})


def restate(question: str, clause: str) -> bool | None:
    """Whether a clause affirms (True) or denies (False) a question that begins with an auxiliary verb.

    The clause must have the question's words, and may have others; one that begins alike may leave out less than half.
    One word may be turned into its opposite ("smaller" for "larger"). None if the clause says something else.
    """
    question = question.strip().partition("?")[0].replace("!", ".").replace("\n", ".").rpartition(".")[2].lstrip()[:400]
    if not _ASKED.match(question):
        return None
    clause, denials = _DENIAL.subn("", clause)
    forms = (clause, _TURNED.sub(r"\2 \1", clause))
    turns = [_turned(content_words(question), content_words(form)) for form in forms]
    turned = turns[0] if turns[0] is not None else turns[1]
    return None if turned is None or turned + denials > 1 else not (turned or denials)


def _turned(asked: list[str], said: list[str]) -> int | None:
    """How many words of a question are turned in a clause; None if the clause is another one."""
    short, long = sorted((asked, said), key=len)
    rest = iter(long)
    turned = [next((turn for other in rest if (turn := _turns(other, word)) is not None), None) for word in short]
    new = [word for word in said if len(word) > 1 and all(_turns(other, word) is None for other in asked)]
    leaves_out = len(said) < len(asked) and (2 * len(said) <= len(asked) or _turns(said[0], asked[0]) is None)
    if len(asked) < 2 or len(new) > 2 or leaves_out or None in turned:
        return None
    return sum(map(bool, turned))


def _turns(asked: str, said: str) -> bool | None:
    """Whether a word is the opposite of the asked one; None if it is another word altogether."""
    if asked == said:
        return False
    sides = [index for word in (asked, said) for index, words in enumerate(_OPPOSITES) if word in words]
    return sides[0] != sides[1] if len(sides) == 2 and sides[0] // 2 == sides[1] // 2 else None
