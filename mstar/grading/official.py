"""MathVista's published scoring rules, so that a number can be compared with its leaderboard.

Source: lupantech/MathVista, ``evaluation/extract_answer.py`` and ``calculate_score.py``. They differ from
``AnswerGrader``: the first letter in brackets counts, any other text becomes the nearest choice (even an empty one),
whole numbers are cut and not rounded, and units or commas make a number wrong.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import Final

from rapidfuzz.distance import Levenshtein

from mstar.grading.answer import AnswerGrader
from mstar.grading.base import Grader
from mstar.types import AnswerType, Prompt, Verdict, VerdictStatus

_LETTER: Final = re.compile(r"\(([a-zA-Z])\)")
_QUICK: Final = re.compile(r'The answer is "(.*)"\.')
_MAX_LENGTH: Final = 400
_OURS: Final = AnswerGrader()


class MathVistaGrader(Grader):
    """Scores as MathVista does.

    Where the published extraction asks a language model, the answer that ``AnswerGrader`` reads stands in for it, and
    without one the response itself.
    """

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        """Grades one response; see the interface."""
        predicted = self._normalise(self._extract(prompt, response), prompt)
        gold = self._gold(prompt)
        if gold is None:
            return Verdict(False, predicted, VerdictStatus.UNGRADEABLE_GOLD)
        if predicted is None:
            return Verdict(False, None, VerdictStatus.NO_ANSWER)
        return Verdict(predicted == gold, predicted, VerdictStatus.GRADED)

    def _extract(self, prompt: Prompt, response: str) -> str:
        if not response or (prompt.choices and response in prompt.choices):
            return response
        if prompt.answer_type in (AnswerType.INTEGER, AnswerType.FLOAT):
            with suppress(ValueError):
                return str(float(response))
        if match := _QUICK.search(response[-20_000:]):
            return match[1]
        # The answer type without the gold answer, which a language model that extracts does not see either.
        read = _OURS.grade(replace(prompt, answer=None, answers=(), unit=None), response).predicted
        return response if read is None else read

    def _normalise(self, extraction: str, prompt: Prompt) -> str | None:
        if prompt.choices:
            return _nearest_choice(extraction.strip(), prompt.choices)
        if len(extraction) > _MAX_LENGTH:
            return None
        try:
            if prompt.answer_type is AnswerType.INTEGER:
                return str(int(float(extraction)))
            if prompt.answer_type is AnswerType.FLOAT:
                return None if prompt.precision is None else str(round(float(extraction), prompt.precision))
        except (ValueError, OverflowError):
            return None
        return extraction

    def _gold(self, prompt: Prompt) -> str | None:
        answer, choices = prompt.answer, prompt.choices
        if answer and choices and answer not in choices:
            index = ord(answer.upper()) - ord("A") if len(answer) == 1 else -1
            return choices[index] if 0 <= index < len(choices) else None
        return answer or None


def _nearest_choice(extraction: str, choices: tuple[str, ...]) -> str:
    letters = _LETTER.findall(extraction)
    name = letters[0].upper() if letters else extraction
    index = ord(name) - ord("A") if len(name) == 1 else -1
    if 0 <= index < len(choices):
        return choices[index]
    return min(choices, key=lambda choice: Levenshtein.distance(name[:_MAX_LENGTH], choice[:_MAX_LENGTH]))
