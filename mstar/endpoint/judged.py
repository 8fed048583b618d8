"""What a judge by address was asked, how it agrees with the rules, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mstar.endpoint.answer import Usage
from mstar.errors import counted


@dataclass(frozen=True, slots=True)
class Judged:
    """Counts of a judge's work, and of what the rules gave up; they add up over shards and processes.

    Attributes:
        model: The judge's name; empty without one.
        asked: Responses whose verdict it was asked for.
        unreadable: Those of them for which its answer could not be read.
        both: Those that the rules decide, too, and that it was asked for whatever they say; of these are ``equal``,
            ``judge_alone`` and ``rules_alone``.
        words: Those of words that the rules take for wrong, for which it is always asked. Counted apart, because the
            others are a sample.
        words_right: Those of them that it calls right.
        requests: Answers that came from the server.
        cost: What they cost, in the currency of ``traffic``'s prices; 0 without prices.
        timeouts: Comparisons of formulas that ran out of computing time twice; such a response counts as wrong,
            unless a judge decides.
    """

    model: str = ""
    asked: int = 0
    unreadable: int = 0
    both: int = 0
    equal: int = 0
    judge_alone: int = 0
    rules_alone: int = 0
    words: int = 0
    words_right: int = 0
    requests: int = 0
    known: int = 0
    prompt_tokens: int = 0
    num_tokens: int = 0
    cost: float = 0.0
    timeouts: int = 0

    def __add__(self, other: Judged) -> Judged:
        counts = (getattr(self, name) + getattr(other, name) for name in _COUNTS)
        return Judged(self.model or other.model, *counts)

    def __sub__(self, other: Judged) -> Judged:
        """What came since an earlier state of the same counts."""
        return Judged(self.model, *(getattr(self, name) - getattr(other, name) for name in _COUNTS))

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Judged:
        """Counts from their JSON form."""
        return cls(found["model"], **{name: found.get(name, 0) for name in _COUNTS})

    @property
    def agreement(self) -> float | None:
        """The share of those of both that it judges as the rules do; None if there are none."""
        return self.equal / self.both if self.both else None

    def as_dict(self) -> dict[str, Any]:
        """The counts' JSON form, with the agreement."""
        return asdict(self) | {"agreement": self.agreement}

    def describe(self) -> str:
        """It in one sentence, for whoever reads the verdicts."""
        usage = Usage(self.requests, self.known, self.prompt_tokens, self.num_tokens)
        said = (
            f"judge {self.model} ({usage.describe(self.cost)}): asked {self.asked:,} times, {self.unreadable:,} "
            "answers unreadable"
        )
        if self.words:
            said += f"; it calls {self.words_right:,} right of {self.words:,} of words that the rules take for wrong"
        if self.agreement is None:
            return f"{said}; no {'other ' * (self.words > 0)}response was decided by the rules, too"
        return (
            f"{said}; on {self.both:,} that the rules decide it agrees in {self.agreement:.1%} ({self.judge_alone:,} "
            f"right by the judge alone, {self.rules_alone:,} right by the rules alone)"
        )

    def notes(self) -> list[str]:
        """What is to be said of the grading: nothing if no judge was asked and nothing was given up."""
        late = f"{counted(self.timeouts, 'comparison')} of formulas ran out of computing time twice: counted as wrong"
        late += ", unless the judge decided" if self.model else ""
        return [self.describe()] * (self.asked > 0) + [late] * (self.timeouts > 0)


_COUNTS = tuple(field.name for field in fields(Judged) if field.name != "model")
