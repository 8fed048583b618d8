"""The policy's own likelihood as a reward: the baseline that an MPRM must beat."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mstar.rewards.base import Reward
from mstar.types import Prompt, Response

__all__ = ["Likelihood"]


class Likelihood(Reward):
    """Scores a response as a whole by how likely the policy found it: the geometric mean of its tokens' probabilities.

    It is in [0, 1] whatever the length, so that thresholds and votes can use it. The selection ``likelihood`` ranks by
    the probability of the whole response instead, which prefers short ones.
    """

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """One score a response; 0 where its log-probability is not known."""
        return [[(_mean_probability(response),) for response in responses] for _, responses in groups]


def _mean_probability(response: Response) -> float:
    return 0.0 if math.isnan(response.logprob) else math.exp(min(response.logprob / max(response.num_tokens, 1), 0.0))
