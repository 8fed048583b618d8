"""What one iteration does, and what it asks the engine for, shard by shard."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from mstar.balance import Balance
from mstar.generation import Request, plan_samples
from mstar.types import Prompt
from mstar.voting import Voting

__all__ = ["IterationPlan"]


@dataclass(frozen=True, slots=True)
class IterationPlan:
    """What one iteration does.

    Attributes:
        iteration: Its number, from 1.
        seed: The run's seed.
        num_samples: Responses drawn for a prompt (M-STaR: K).
        temperature: Sampling temperature.
        answer_conditioned: Whether the policy is shown the gold answer while it samples (M-STaR: warm-up); prompts
            that are voted on have none to show.
        vote: Whether unlabelled prompts get the weighted vote as their answer; otherwise their own hidden one.
        voting: When the vote gives an answer.
        shard_size: Prompts in a shard.
        balance: Which prompts get further samples.
        keep_tokens: Whether responses keep their tokens with the log-probabilities, for methods that need a ratio.
        ahead: The shards that were drawn while the iteration before trained.
    """

    iteration: int
    seed: int
    num_samples: int
    temperature: float
    answer_conditioned: bool = False
    vote: bool = True
    voting: Voting = field(default_factory=Voting)
    shard_size: int = 256
    balance: Balance = field(default_factory=Balance)
    keep_tokens: bool = False
    ahead: tuple[int, ...] = ()

    @property
    def counts(self) -> range:
        """How many responses a prompt may have."""
        return range(self.num_samples, self.num_samples * (2 if self.balance.extra_samples else 1) + 1)

    @property
    def stage(self) -> str:
        """The name of the iteration in seeds."""
        return f"rollout/{self.iteration}"

    def fetch_shard(
        self, prompts: Sequence[Prompt], unlabelled: Sequence[Prompt], start: int
    ) -> tuple[list[Prompt], dict[str, Prompt]]:
        """The prompts of the shard that begins at ``start``, and as they are, by id, those whose answers it hides."""
        stop, first = start + self.shard_size, len(prompts)
        others = list(unlabelled[max(start - first, 0) : max(stop - first, 0)])
        if not self.vote:
            return [*prompts[start:stop], *others], {}
        shown = [replace(prompt, answer=None, answers=()) for prompt in others]
        return [*prompts[start:stop], *shown], {prompt.id: prompt for prompt in others}

    def requests(self, prompts: Sequence[Prompt], places: Sequence[range], hidden: Collection[str]) -> list[Request]:
        """What an engine is asked for.

        Args:
            prompts: The prompts.
            places: For each of them, the numbers of the samples.
            hidden: The ids of those whose answer is not shown.
        """
        return [
            Request(
                prompt,
                plan_samples(
                    self.seed, self.stage, prompt.id, len(numbers), self.temperature, first_index=numbers.start
                ),
                show_answer=self.answer_conditioned and prompt.id not in hidden,
                keep_tokens=self.keep_tokens,
            )
            for prompt, numbers in zip(prompts, places, strict=True)
        ]
