"""Settings of an annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mstar.errors import require_least, require_positive, require_share


@dataclass(frozen=True)
class AnnotationSettings:
    """How step labels are made (M-STaR: MPRM data, Math-Shepherd's estimation).

    Args:
        num_samples: Responses sampled for each prompt.
        temperature: Sampling temperature of the responses and of their continuations.
        num_continuations: Continuations of every distinct step prefix, at most.
        continuing: When a prefix is continued no further. ``all``: after ``num_continuations``. ``ahead``: as soon as
            one is right, and right or wrong ones are ``lead`` ahead of the others; hard labels are those of ``all``,
            soft ones shares of fewer continuations. ``search``, for hard labels alone: in a wrong response the first
            step that no continuation saves is found by halving, a prefix is settled by one right continuation, and the
            steps before and after are taken to be right and wrong; those of a right response are all right.
        lead: See ``continuing``.
        max_per_side: Of a prompt with right and wrong responses, at most this many distinct ones of either kind are
            annotated, which evens the two out (with 2, three right and a wrong one give two and one).
        unmixed_share: Share of the prompts with only right or only wrong responses of which one response is annotated.
        shard_size: Prompts that are labelled together and saved as one file; an interrupted annotation goes on at the
            first one that is missing. More of them keep a GPU busier and lose more when it is interrupted.
        seed: Seed of the sampling.

    Raises:
        ConfigError: a setting is out of its range.
    """

    num_samples: int = 8
    temperature: float = 1.0
    num_continuations: int = 4
    continuing: Literal["all", "ahead", "search"] = "all"
    lead: int = 3
    max_per_side: int = 3
    unmixed_share: float = 0.2
    shard_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("num_samples", "num_continuations", "lead", "max_per_side", "shard_size")
        require_least("annotation: ", **{name: getattr(self, name) for name in counts})
        require_positive("annotation: ", temperature=self.temperature)
        require_share("annotation: unmixed_share", self.unmixed_share)
