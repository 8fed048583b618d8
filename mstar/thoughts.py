"""What opens and closes the thoughts of models that think before they answer."""

from __future__ import annotations

import re
from typing import Final

_TAG: Final = r"(?:\w+:)?think(?:ing)?"
OPENING: Final = re.compile(
    r"(?i)<(?:\w+:)?(?:think|thinking|thought)>|◁think▷|\[THINK\]|<\|channel>thought|<\|begin_of_thought\|>"
)
CLOSING: Final = re.compile(
    r"(?i)</(?:\w+:)?(?:think|thinking|thought|reasoning)>|◁/think▷|\[(?:/THINK|BEGIN FINAL RESPONSE)\]|<channel\|>"
    r"|<\|end_of_thought\|>"
)
# A thought that a turn opens and leaves open, and the ends of such ones.
OPEN_TURN: Final = re.compile(rf"(?:<{_TAG}>|◁think▷|\[THINK\])\s*$")
_END_OF_OPEN: Final = re.compile(rf"</{_TAG}>|◁/think▷|\[/THINK\]")


def unopened_thought(response: str) -> str:
    """What opens the thought that a response closes and did not open, as its chat template has (Qwen3.5, QwQ).

    Returns:
        Such as ``<think>``; empty if there is no such thought.
    """
    closing = _END_OF_OPEN.search(response)
    if closing is None:
        return ""
    opening = closing[0].replace("/", "")
    return "" if opening in response[: closing.start()] else opening


def is_in_thought(text: str) -> bool:
    """Whether a text ends within a thought that it has opened."""
    return OPENING.search(CLOSING.split(text)[-1]) is not None
