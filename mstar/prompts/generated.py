"""What the tasks have in common whose prompts are made up: all of a prompt follows from (split, seed, index)."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from mstar.errors import require_least
from mstar.prompts.base import PromptSource


@dataclass(frozen=True, slots=True)
class GeneratedImage(ABC):
    """A reference to a picture that is drawn and not stored: (split, seed, index) say all."""

    task: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]

    split: str
    seed: int
    index: int

    @property
    def uri(self) -> str:
        """``<task>:<split>/<seed>/<index>``."""
        return f"{self.task}:{self.split}/{self.seed}/{self.index}"

    def rng(self, part: str) -> np.random.Generator:
        """The random numbers of one part of it, or of its prompt."""
        digest = hashlib.sha256(f"{self.uri}/{part}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "little"))

    @abstractmethod
    def load(self) -> Image.Image:
        """Draws the picture."""


class GeneratedPrompts(PromptSource):
    """Prompts that are made up when they are asked for. Splits never share one.

    Args:
        split: The split; its name is part of every picture's seed.
        size: Number of prompts.
        seed: Seed of the pictures and questions.

    Raises:
        ConfigError: ``size`` is below 1.
    """

    def __init__(self, split: str, size: int, seed: int) -> None:
        require_least(f"{type(self).__name__}: ", size=size)
        self.split = split
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.size

    def id_of(self, index: int) -> str:
        """The id of a prompt.

        Raises:
            IndexError: there is none of this index.
        """
        if not 0 <= index < self.size:
            raise IndexError(index)
        return f"{self.split}-{self.seed}-{index}"

    def index_of(self, prompt_id: str) -> int | None:
        """The index in a prompt's id; None if the id is not one of this split, seed and size."""
        digits = prompt_id.rpartition("-")[2]
        index = int(digits) if digits.isdecimal() and len(digits) < 19 else -1
        return index if 0 <= index < self.size and prompt_id == self.id_of(index) else None
