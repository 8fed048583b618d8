"""What a sentence without any marker states: for benchmarks of models that were told no form of answer."""

from __future__ import annotations

from typing import Final

from mstar.grading.base import AnswerReader
from mstar.grading.sentences.clauses import CONCLUSION, REFUSAL, count_shared_words, split_sentences
from mstar.grading.sentences.named import Named
from mstar.types import Prompt

__all__ = ["find_stated_answer"]

_FEW: Final = 3


def find_stated_answer(response: str, prompt: Prompt, reader: AnswerReader) -> str | None:
    """The normalised answer that a response states in a sentence.

    Called only where the response commits to nothing: no box, tag or marker, and neither the whole nor its last line is
    nothing but an answer.

    Args:
        response: The response's text, normalised, without thoughts and end tokens.
        prompt: The question, its options and the type of its answer.
        reader: Reads the prompt's type of answer.

    Returns:
        What the reader read, or None if the response states no answer, or several.
    """
    sentences = split_sentences(response)
    if not sentences or (REFUSAL.search(response) and not any(map(REFUSAL.search, prompt.choices))):
        return None
    named = Named(prompt, reader)
    first, last = sentences[0], sentences[-1]
    opening = named.open(first)
    if len(sentences) == 1:
        return opening or named.state(first)
    later = named.open(last) or named.state(last)
    if opening is not None:
        return opening if later in (None, opening) else None
    apart = response.rstrip().rpartition("\n\n")[2].strip() == last
    concludes = apart or CONCLUSION.search(last) is not None or len(sentences) <= _FEW
    if later is not None and (concludes or count_shared_words(last, prompt.question) >= 2):
        return later
    if REFUSAL.search(last):
        return None
    # "The green gem affects the points less. This is because ...", behind "I see the image."
    takes_up = 1 if prompt.choices else 2
    earlier = [one for one in sentences[:2] if count_shared_words(one, prompt.question) >= takes_up]
    found = named.state(earlier[0]) if earlier else None
    return found if later in (None, found) else None
