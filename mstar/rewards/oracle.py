"""What a perfect reward model would say; generated data alone knows it."""

from __future__ import annotations

from collections.abc import Sequence

from mstar.errors import ConfigError
from mstar.rewards.base import Reward
from mstar.types import Prompt, Response


class Oracle(Reward):
    """Scores a response as a whole: 1 if its whole chain is right, else 0."""

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        """One score a response.

        Raises:
            ConfigError: the data does not know which chains are right.
        """
        return [[(_score(prompt, response),) for response in responses] for prompt, responses in groups]


def _score(prompt: Prompt, response: Response) -> float:
    right = prompt.chain_correct(response.text)
    if right is None:
        raise ConfigError(
            f"the Oracle reward needs data with known right chains, which prompt '{prompt.id}' lacks: choose another "
            "reward."
        )
    return float(right)
