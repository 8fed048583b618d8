"""The interface between finding the part of a response that commits to an answer, and reading an answer of one type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

__all__ = ["REFUSED", "AnswerReader"]

# A reading that names several answers, or denies one: no other part of the response may be read in its place.
REFUSED: Final = ""


class AnswerReader(ABC):
    """Reads answers to one prompt: the part of the rules that depends on the type of its answer.

    Attributes:
        gold: The normalised gold answer; None if it cannot be graded.
    """

    gold: str | None

    @abstractmethod
    def read(self, span: str) -> str | None:
        """The normalised answer that a sentence or line names.

        Returns:
            The answer; ``REFUSED`` if the span names several or denies one; None if there is none in it.
        """

    @abstractmethod
    def read_alone(self, span: str) -> str | None:
        """The same for a span that must be nothing but an answer."""

    def read_opening(self, sentence: str) -> str | None:
        """The answer that a sentence gives before it goes on to explain it, as in "Yes, because ..."."""
        return None

    def is_listing(self, lines: list[str]) -> bool:
        """Whether the lines list the options rather than choose one."""
        return False
