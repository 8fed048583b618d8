"""What a text is made of: sentences, their clauses, and the words that refuse, deny or doubt."""

# ruff: noqa: RUF001

from __future__ import annotations

import re
from typing import Final

__all__ = ["DOUBT", "NEGATION", "REFUSAL", "count_shared_words", "split_sentences", "without_reason"]

REFUSAL: Final = re.compile(
    r"\b(?:cannot|can't|could not|couldn't|unable to|impossible to|not possible to|difficult to|hard to) (?:\w+ ){0,3}?"
    r"(?:determine|tell|answer|say|provide|give|find|calculate|compute|solve|identify|select|choose|process|see|view|read|help)d?\b"
    r"|\bcannot be (?:found|concluded)\b"
    r"|\b(?:not|n't|no|without|lacks?|insufficient|more|additional|further|specific) (?:\w+ ){0,3}?"
    r"(?:information|context|details|data)\b"
    r"|\b(?:sorry|apologi[sz]e)\b|\bnone of the\b[^.]{0,30}\b(?:options|choices|answers)\b"
    r"|\bplease (?:provide|describe|upload|share)\b|无法",
    re.IGNORECASE,
)
NEGATION: Final = re.compile(r"\b(?:not|never|neither|nor|cannot|no longer|incorrect|wrong)\b|n't\b|不", re.IGNORECASE)
DOUBT: Final = re.compile(
    r"\b(?:could|might|(?-i:may)|maybe|perhaps|possibly|would have been|either|suppose|assum\w+|let|if)\b",
    re.IGNORECASE,
)
_SENTENCE_END: Final = re.compile(
    r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b(?:vs|Mr|Dr|St)\.)(?<!\b(?:Mrs|i\.e|e\.g)\.)\s+(?=[\W\dA-Z])|(?<=[。！？])|\n+"
)
_COURTESY: Final = re.compile(
    r"\W*(?:I hope|hope this|let me know|please let|feel free|if you have)\b|[^?]*\?\W*$", re.IGNORECASE
)
_REASON_BEHIND: Final = re.compile(
    r",?\s+(?:because|since|due to|given that|based on|according to|compared (?:to|with)"
    r"|as (?=(?:it|the|they|this|there|indicated|shown|we|each|both|all|you|a|an)\b))\b.*",
    re.IGNORECASE | re.DOTALL,
)
_REASON_BEFORE: Final = re.compile(
    r"^\W*(?:(?:because|since|given that|based on|according to|after|from|in(?! \d)|on|at|using|as|if|when|with|for)"
    r"\b[^,]*,\s*)+",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[a-z]{3,}")
# fmt: off
_COMMON: Final = frozenset((
    "the", "and", "are", "was", "were", "has", "have", "what", "which", "how", "many", "does", "did", "that", "this",
    "there", "for", "with", "from", "can", "answer", "question", "following", "image", "all",
))
# fmt: on


def split_sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without the courtesies and questions at its end."""
    sentences = [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip(" *#\t")]
    while len(sentences) > 1 and _COURTESY.match(sentences[-1]):
        sentences.pop()
    return sentences


def without_reason(sentence: str) -> str:
    """What a sentence states or concludes, without the reason or circumstance that it begins or ends with."""
    return _REASON_BEHIND.sub("", _REASON_BEFORE.sub("", sentence.rpartition(", so ")[2], count=1))


def count_shared_words(sentence: str, other: str) -> int:
    """How many words, other than the commonest, two texts share; a plural counts as its singular."""
    words, others = ({word.rstrip("s") for word in _WORD.findall(text.casefold())} for text in (sentence, other))
    return len((words & others) - _COMMON)
