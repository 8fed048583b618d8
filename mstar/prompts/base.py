"""The interface of every prompt source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mstar.prompts.facts import SourceFacts
from mstar.prompts.mixing import Mixing
from mstar.types import Prompt

__all__ = ["PromptSource"]


class PromptSource(ABC):
    """A fixed, ordered collection of prompts; a prompt (and its picture) is built only when it is asked for.

    Attributes:
        name: What reports call it; empty for the name of its class.
        origin: Which of several sources with that name it is: its path, or its split.
    """

    name: str = ""
    origin: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """The number of prompts."""

    @abstractmethod
    def __getitem__(self, index: int) -> Prompt:
        """The prompt at ``index``, from 0.

        Raises:
            IndexError: ``index`` is not in [0, len).
        """

    @abstractmethod
    def index_of(self, prompt_id: str) -> int:
        """The index of the prompt with this id.

        Raises:
            mstar.errors.DataError: no prompt has this id.
        """

    def rationales(self) -> Iterator[str | None]:
        """The rationale of every prompt in order, None where it has none."""
        return (prompt.rationale for prompt in self)

    def facts(self, rows: NDArray[np.int64] | None = None) -> SourceFacts | None:
        """What is known without a look at the prompts; None where nothing is.

        Args:
            rows: The numbers of the prompts whose kinds are counted; None counts all.
        """
        return None

    def mixing(self) -> Mixing | None:
        """By which weights training draws from it; None for all prompts alike."""
        return None

    def members(self) -> tuple[PromptSource, ...]:
        """The sources that it is made of: itself, unless it is a part or a mixture of others."""
        return (self,)

    @property
    def title(self) -> str:
        """Its name in reports."""
        return self.name or type(self).__name__

    def __iter__(self) -> Iterator[Prompt]:
        return (self[i] for i in range(len(self)))
