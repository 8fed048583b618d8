"""A grader that is told of responses before it grades them, as a judge by address is, for the tests of who tells it."""

from __future__ import annotations

from collections.abc import Sequence

from mstar.grading import AnswerGrader
from mstar.types import Prompt


class Told(AnswerGrader):
    """Records how many responses it was told of at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[int] = []

    def prepare(self, responses: Sequence[tuple[Prompt, str]]) -> None:
        self.told.append(len(responses))
