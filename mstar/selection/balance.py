"""How much is learned from a prompt, by how hard it is for the policy (its pass rate: the share of right responses).

Left alone, a policy that improves itself over-trains what it can do already: easy prompts give many right responses,
hard ones few (the Matthew effect, arXiv 2510.26474).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mstar.errors import ConfigError, require_least, require_share
from mstar.types import ScoredResponse


def pass_rate(scored: Sequence[ScoredResponse]) -> float:
    """The share of a prompt's responses that are right and whole; 0 without any."""
    return sum(s.verdict.correct and s.response.finished for s in scored) / len(scored) if scored else 0.0


@dataclass(frozen=True)  # without slots: jsonargparse reads a default's vars()
class Balance:
    """Learns less from easy prompts and more from hard ones. By default it changes nothing.

    Where an answer is voted on, ``drop`` and ``keep_easy`` take the vote's share for the pass rate; further samples and
    repetition are for prompts with an answer alone, because a vote does not say how hard a prompt is.

    Args:
        drop: all_right keeps nothing of a prompt whose responses are all right: it has nothing to teach (Reinforce-Rej,
            arXiv 2504.11343, drops it and those with none right).
        easy: Pass rate from which a prompt is easy.
        keep_easy: Responses kept of an easy prompt at most; none sets no limit.
        hard: Pass rate up to which a prompt is hard.
        extra_samples: Further samples of hard prompts in an iteration, as a share of its samples: the fewer right, the
            sooner a prompt gets them, at most as many again as it had.
        repeat_hard: How often what is kept of a hard prompt counts, as its weight in the loss: 2 is as if each of its
            rows stood twice in the batch. None counts it once.

    Raises:
        ConfigError: a value cannot work, or hard reaches easy.
    """

    drop: Literal["none", "all_right"] = "none"
    easy: float = 0.75
    keep_easy: int | None = None
    hard: float = 0.25
    extra_samples: float = 0.0
    repeat_hard: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.hard < self.easy <= 1:
            raise ConfigError(
                f"rollout.balance: hard is {self.hard} and easy is {self.easy}, but they are pass rates with "
                "0 <= hard < easy <= 1."
            )
        require_share("rollout.balance.extra_samples", self.extra_samples)
        require_least("rollout.balance.", keep_easy=self.keep_easy, repeat_hard=self.repeat_hard)

    def limit(self, scored: Sequence[ScoredResponse]) -> int:
        """How many of a prompt's responses may be kept at most."""
        rate = pass_rate(scored)
        if self.drop == "all_right" and rate == 1:
            return 0
        return len(scored) if self.keep_easy is None or rate < self.easy else self.keep_easy

    def repeat(self, scored: Sequence[ScoredResponse]) -> tuple[ScoredResponse, ...]:
        """The responses of a prompt, those of a hard one with the weight that they are repeated by."""
        if self.repeat_hard is None or pass_rate(scored) > self.hard:
            return tuple(scored)
        return tuple(replace(s, weight=s.weight * self.repeat_hard) for s in scored)

    def share_out(self, groups: Sequence[Sequence[ScoredResponse]], num_samples: int) -> list[int]:
        """How many further samples each prompt of a shard gets.

        Args:
            groups: The responses to each prompt, ``num_samples`` of them.

        Returns:
            A number for every prompt. It depends on the shard's responses alone.
        """
        left = round(self.extra_samples * num_samples * len(groups))
        rates = [pass_rate(group) for group in groups]
        given = [0] * len(groups)
        for place in sorted(range(len(groups)), key=lambda place: (rates[place], groups[place][0].response.prompt_id)):
            if rates[place] > self.hard or left == 0:
                break
            given[place] = min(num_samples, left)
            left -= given[place]
        return given
