"""What of a response counts: not its private thoughts, and not an invented next question with its answer."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_RESPONSE", "relevant_part"]

# More is never needed to state an answer; it bounds the work on texts of any size.
MAX_RESPONSE: Final = 24_000
_FOLLOW_ON: Final = re.compile(
    r"(?:^|\n|(?<=[.!?。)*}$])\s)\W{0,6}(?:(?:next|new|another|follow-?up)\s+)?"
    r"(?:question|problem|exercise|human|user|instruction|q|问题|题目|问)\s*\d{0,3}\W{0,4}?\s?[:.](?!\d)"
    r"|\n#{1,6}\s*(?:question|problem)\b"
    r"|<\|(?:im_start|user|start_header_id)[^>\n]{0,20}\|?>|\[INST\]",
    re.IGNORECASE,
)
_ANSWERED: Final = re.compile(r"\banswer\b|\\boxed", re.IGNORECASE)
_WORD: Final = re.compile(r"\w+")
_THOUGHT_END: Final = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_TEXT_END: Final = re.compile(
    r"</s>|<\|(?:im_end|end|endoftext|end_of_text|eot_id)\|>|<(?:eos|end_of_turn)>", re.IGNORECASE
)
_THOUGHT: Final = re.compile(r"<(?:think|thinking|thought)>", re.IGNORECASE)


def relevant_part(text: str, question: str) -> tuple[str, str]:
    """Splits a normalised response into what answers the question, and what may belong to a question of its own.

    Args:
        text: The response. Of more than ``MAX_RESPONSE`` characters only the last ones are looked at.
        question: The question; a repetition of it is no new question. Empty if unknown.

    Returns:
        The part that counts, and the rest from the first possible follow-on question. The rest is empty where there is
        none. With an unknown question and no answer before it, the rest may be the answer to a restated question.
    """
    text = text[-MAX_RESPONSE:]
    if "<" in text:
        ends = [end.end() for end in _THOUGHT_END.finditer(text)]
        if ends:
            text = text[ends[-1] :]
        elif (start := _THOUGHT.search(text)) is not None:
            text = text[: start.start()]
        # What a model writes behind the end of its text is no part of it.
        ended = next((part for part in _TEXT_END.split(text) if part.strip()), "")
        text = ended if ended else text
    for match in _FOLLOW_ON.finditer(text):
        before = text[: match.start() + 1].strip()
        if not before:
            continue
        asked = text[match.end() : match.end() + max(len(question), 60) + 20]
        # Behind an answer only the very question is a repetition.
        share = 1.0 if _ANSWERED.search(before) else 0.85
        if question and _repeats(asked.partition("\n")[0], question, share):
            continue
        return before, text[match.end() :] if not question else ""
    return text, ""


def _repeats(asked: str, question: str, share: float) -> bool:
    words = _WORD.findall(asked.casefold())
    known = set(_WORD.findall(question.casefold()))
    return (
        bool(words)
        and sum(word in known for word in words) >= share * len(words)
        and not any(word.isdigit() and word not in known for word in words)
    )
