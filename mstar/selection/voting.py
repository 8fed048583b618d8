"""The pseudo answers of unlabelled prompts: what their responses agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mstar.errors import require_share
from mstar.metrics import votes, winner
from mstar.storage import PromptResponses
from mstar.types import ScoredResponse, Verdict, VerdictStatus


@dataclass(frozen=True)  # without slots: jsonargparse reads a default's vars()
class Voting:
    """When the votes on an unlabelled prompt give it an answer. By default they always do (M-STaR).

    The votes are weighted by the reward, if there is one. Hard majorities that are always believed can feed a policy
    its own mistakes until it collapses. (LLM-Self-Judge, arXiv 2603.21289, rewards every response by the share of its
    own answer, and learns from all; here those with the winner's alone are kept.)

    Args:
        min_share: Least share of the votes that the answer needs; below it, nothing of the prompt is kept.
        ties: Whether of several answers with the most votes the earliest is taken; otherwise there is none.
        weight: share makes votes soft: what is kept counts in the loss by the answer's share of the votes. None counts
            it as that of a labelled prompt.

    Raises:
        ConfigError: ``min_share`` is not in [0, 1].
    """

    min_share: float = 0.0
    ties: bool = True
    weight: Literal["share"] | None = None

    def __post_init__(self) -> None:
        require_share("rollout.voting.min_share", self.min_share)

    def _answer(self, scored: Sequence[ScoredResponse]) -> tuple[str | None, float]:
        """The pseudo answer, and its share of the votes."""
        # What was cut off has not answered, and can neither be kept.
        whole = [s for s in scored if s.response.finished]
        totals = votes(whole, weighted=all(s.process_reward is not None for s in whole))
        answer = winner(totals)
        if answer is None:
            return None, 0.0
        most, cast = totals[answer], sum(totals.values())
        if not self.ties and sum(total == most for total in totals.values()) > 1:
            return None, 0.0
        # Where every vote counts nothing, all are equal.
        share = most / cast if cast else 1 / len(totals)
        # Compared as shares, because 0.28 * 25 is above 7.
        return (answer if share >= self.min_share else None), share

    def label(self, group: PromptResponses) -> PromptResponses:
        """The prompt with its pseudo answer, and the responses with the verdicts and weights that this gives them."""
        answer, share = self._answer(group.responses)
        weight = share if self.weight == "share" else 1.0

        def verdict(predicted: str | None) -> Verdict:
            status = VerdictStatus.NO_ANSWER if predicted is None else VerdictStatus.GRADED
            return Verdict(predicted is not None and predicted == answer, predicted, status)

        judged = tuple(replace(s, verdict=verdict(s.verdict.predicted), weight=weight) for s in group.responses)
        # What the hidden answer is, an option's number say, the voted one need not be.
        return PromptResponses(replace(group.prompt, answer=answer, answer_is=None), judged, voted=True)
