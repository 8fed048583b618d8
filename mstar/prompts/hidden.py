"""Prompts without their right answers, as those see them who must not know these."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mstar.grading.answer import make_reader
from mstar.grading.choices import ChoiceReader, MultiSelectReader
from mstar.grading.formulas import GradingTimeoutError
from mstar.types import AnswerType, Prompt

# Types of which the answer's form decides how it is read.
_BY_FORM: Final = (AnswerType.MULTI_CHOICE, AnswerType.TEXT)


def hide_answers(prompt: Prompt) -> Prompt:
    """The prompt without its right answers, of which its type still tells whether they are options, and several."""
    alone = [replace(prompt, answer=gold, answers=()) for gold in prompt.golds if prompt.answer_type in _BY_FORM]
    try:
        readers = [reader for reader in map(make_reader, alone) if reader.gold is not None]
    except GradingTimeoutError:
        readers = []
    kind = prompt.answer_type
    if any(isinstance(reader, MultiSelectReader) for reader in readers):
        kind = AnswerType.MULTI_SELECT
    elif readers and all(isinstance(reader, ChoiceReader) for reader in readers):
        kind = AnswerType.MULTI_CHOICE
    return replace(prompt, answer=None, answers=(), answer_type=kind)
