"""The policy's own likelihood as a reward: the baseline that an MPRM must beat."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mstar.errors import ConfigError
from mstar.rewards.base import Reward
from mstar.types import Prompt, Response


class Likelihood(Reward):
    """Scores a response as a whole by how likely the policy found it: the geometric mean of its tokens' probabilities.

    It is in [0, 1] whatever the length, so that thresholds and votes can use it. The selection ``likelihood`` ranks by
    the probability of the whole response instead, which prefers short ones. What the policy could not write at all,
    because its prompt was too long for the engine, has no score, and so the reward 0, as with an MPRM.
    """

    def lacks(self, response: Response) -> str | None:
        """Its log-probability, or the number of its tokens."""
        if _is_unwritten(response):
            return None
        if math.isnan(response.logprob):
            return "'logprob' is missing, which the reward Likelihood is made of."
        if response.num_tokens < 1:
            return "'num_tokens' is missing, by which the reward Likelihood divides 'logprob'."
        return None

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """One score a response; ``()`` for one that was not written.

        Raises:
            ConfigError: the log-probability of one is not known.
        """
        return [[self._mean_probability(response) for response in responses] for _, responses in groups]

    def _mean_probability(self, response: Response) -> tuple[float, ...]:
        if (missing := self.lacks(response)) is not None:
            raise ConfigError(
                f"sample {response.sample_index} of the prompt '{response.prompt_id}' cannot be scored: {missing} Take "
                "an engine that gives log-probabilities, or another reward."
            )
        if _is_unwritten(response):
            return ()
        return (math.exp(min(response.logprob / response.num_tokens, 0.0)),)


def _is_unwritten(response: Response) -> bool:
    return not (response.finished or response.num_tokens or response.text)
