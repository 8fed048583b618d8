"""What a sentence without any marker states: for benchmarks of models that were told no form of answer."""

from __future__ import annotations

from mstar.grading.base import AnswerReader
from mstar.grading.sentences.clauses import REFUSAL, count_shared_words, split_sentences
from mstar.grading.sentences.named import Named
from mstar.types import Prompt

__all__ = ["find_stated_answer"]


def find_stated_answer(response: str, prompt: Prompt, reader: AnswerReader) -> str | None:
    """The normalised answer that a response states in a sentence; None if it states none, or several.

    Args:
        response: What ``relevant_part`` gave, without a commitment.
    """
    sentences = split_sentences(response)
    if not sentences or (REFUSAL.search(response) and not any(map(REFUSAL.search, prompt.choices))):
        return None
    named = Named(prompt, reader)
    opening = named.open(sentences[0])
    later = named.open(sentences[-1]) or named.state(sentences[-1])
    # The last of several options, one a sentence, is no choice.
    if prompt.choices and later is not None and named.open(sentences[-2:][0]) not in (None, later):
        return None
    if opening is not None or later is not None:
        return opening or later if None in (opening, later) or opening == later else None
    # "The green gem affects the points less. This is because ...", behind "I see the image."
    takes_up = 0 if prompt.choices else 2
    earlier = (named.state(one) for one in sentences[:2] if count_shared_words(one, prompt.question) >= takes_up)
    return next(filter(None, earlier), None)
