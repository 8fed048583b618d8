"""What a run has for others: one type for each kind of row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mstar.types import Prompt


@dataclass(frozen=True, slots=True)
class Kept:
    """A response that was kept: to be imitated."""

    prompt: Prompt
    response: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A response that was kept beside a wrong one to the same prompt, of the same iteration."""

    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class LabelledSteps:
    """A response with labelled steps.

    Attributes:
        steps: The steps without the line breaks that end them.
        labels: For every step, whether any continuation of it reached the gold answer.
    """

    prompt: Prompt
    steps: tuple[str, ...]
    labels: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A prompt that was sampled, with its gold answer: for reinforcement learning."""

    prompt: Prompt


PeerRow: TypeAlias = Kept | Pair | LabelledSteps | Sampled
