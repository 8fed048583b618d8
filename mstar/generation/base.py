"""The engine interface: requests in, responses out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mstar.distributed import is_main
from mstar.errors import ConfigError, DataError
from mstar.generation.progress import ResponseBar
from mstar.types import Prompt, Response

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mstar.rendering import Renderer


@dataclass(frozen=True, slots=True)
class Sample:
    """One response to draw.

    Attributes:
        index: Its number among the prompt's samples, from 0.
        temperature: Sampling temperature; 0 is greedy decoding.
        seed: Seed of this response alone, so that it does not depend on what else is in the batch.
    """

    index: int
    temperature: float
    seed: int


GREEDY: Final = Sample(index=0, temperature=0.0, seed=0)


@dataclass(frozen=True, slots=True)
class Request:
    """All the responses to draw for one prompt; the engine encodes prompt and images once for them.

    Attributes:
        prefix: The beginning of the response, to be continued; the responses include it.
        show_answer: Whether the gold answer is shown to the model (answer-conditioned warm-up sampling).
        keep_tokens: Whether the responses have their tokens and these tokens' log-probabilities.
    """

    prompt: Prompt
    samples: tuple[Sample, ...]
    prefix: str = ""
    show_answer: bool = False
    keep_tokens: bool = False

    def fill(
        self, sample: Sample, decode: Callable[[tuple[int, ...]], str], tokens: Sequence[int], finished: bool,
        logprob: float, logprobs: Iterable[float],
    ) -> Response:  # fmt: skip
        """The response of the tokens that were drawn for a sample, a finished one's end token among them.

        Args:
            logprobs: The log-probability of each token; asked for only if tokens are kept.
        """
        return Response(
            prompt_id=self.prompt.id,
            sample_index=sample.index,
            text=self.prefix + decode(tuple(tokens[: len(tokens) - finished])),
            num_tokens=len(tokens),
            finished=finished,
            temperature=sample.temperature,
            logprob=logprob,
            tokens=tuple(tokens) if self.keep_tokens else (),
            logprobs=tuple(logprobs) if self.keep_tokens else (),
        )


@dataclass(frozen=True, slots=True)
class HandOver:
    """What an engine holds after a hand-over, compared exactly with the trainer's weights in the engine's type.

    Attributes:
        stale: What the engine still keeps of what it made with earlier weights, in words.
    """

    num_tensors: int
    different: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed that depends on these parts alone, stable over processes and machines."""
    digest = hashlib.blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def plan_samples(
    seed: int, stage: str, prompt_id: str, num_samples: int, temperature: float, *, first_index: int = 0
) -> tuple[Sample, ...]:
    """The samples of one prompt: each is seeded by (seed, stage, prompt, sample index) and by nothing else.

    Args:
        stage: What the samples are for, e.g. ``"rollout/3"`` (iteration 3).
    """
    return tuple(
        Sample(index, temperature, derive_seed(seed, stage, prompt_id, index))
        for index in range(first_index, first_index + num_samples)
    )


class Engine(ABC):
    """Draws responses from the policy.

    Attributes:
        max_new_tokens: Longest response, in tokens.
        drift_bound: How far its log-probabilities may be from the trainer's (mean absolute difference of a token, in
            nats); None for an engine that computes with the policy itself, which cannot differ.
        drift_floor: If it is set, ``drift_bound`` is for the first hand-over alone, and later ones may be as far off as
            this, or a few times what the first was (``DriftCheck``).
        dtype: What it computes in; None for what the policy computes in.
        asleep: Whether it has let go of its memory, so that it keeps nothing of what it has read.
        own_model: The model that it draws from, where that is not the policy: no weights are handed to it, and it is
            never started. None for the policy.
        logprobs: Whether its responses have log-probabilities.
        group_size: Processes that generate together, and so must be given the same requests at the same time.
        elsewhere: Whether it computes with weights of its own outside this process, so that it can draw while the
            policy is trained here.
        continuous: Whether it batches as there is room, so that its rounding depends on time, and not on what it is
            given together alone.
    """

    max_new_tokens: int
    drift_bound: float | None = None
    drift_floor: float | None = None
    dtype: torch.dtype | None = None
    asleep: bool = False
    own_model: str | None = None
    logprobs: bool = True
    group_size: int = 1
    elsewhere: bool = False
    continuous: bool = False
    progress: bool = False
    _bar: ResponseBar | None = None

    @contextmanager
    def counting(self, total: int, *, name: str = "generate", show: bool = True) -> Iterator[ResponseBar]:
        """Has one progress bar for all that is generated within the block; within another such block, its bar.

        Args:
            total: Responses in all.
            show: Whether it is shown, if the engine shows any.
        """
        if self._bar is not None:
            yield self._bar
            return
        self._bar = ResponseBar(total, self.max_new_tokens, name=name, show=show and self.progress and is_main())
        try:
            yield self._bar
        finally:
            self._bar.close()
            self._bar = None

    def expect(self, model_type: str, longest_prompt: int | None = None) -> None:  # noqa: B027 - most run anything
        """Takes in what it will be used for, before any weights are loaded.

        Args:
            model_type: The model's family, by the ``model_type`` of its configuration.
            longest_prompt: Tokens of the longest prompt, with what is given of the response; None if it isn't known.

        Raises:
            ConfigError: it cannot run such a model.
        """

    def work_in(self, folder: Path) -> None:  # noqa: B027 - most keep nothing on disk
        """Takes in the folder of the run or annotation that it draws for."""

    @abstractmethod
    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        """Prepares for generation with this policy.

        Args:
            policy: The Hugging Face model that is trained (``AutoModelForImageTextToText``).
            renderer: Turns prompts into its inputs, and token ids into text.
        """

    @abstractmethod
    def update_weights(self, policy: nn.Module) -> None:
        """Makes the policy's present weights the ones that the next responses are drawn from."""

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        """Draws every sample of every request.

        Returns:
            One list a request, in the order of the requests; its responses are in the order of the samples.
        """

    def response_logprobs(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> dict[str, list[list[float]]]:
        """The log-probability at temperature 1 of each token of given responses, by the engine's own weights.

        Args:
            prompts: One a response, with their pictures.
            responses: The responses' texts; the end token is added.

        Returns:
            One list a response, of each part that has weights of its own, by the part's name (one part alone needs
            none); nothing for an engine that computes with the policy itself.
        """
        return {}

    def compare_weights(self, policy: nn.Module) -> HandOver | None:
        """Compares its weights with the policy's, exactly, after ``update_weights``. Collective for a sharded policy.

        Returns:
            None for an engine that computes with the policy itself, or that cannot read its weights back.
        """
        return None

    def keep_weights(self, keep: bool = True) -> Path | None:
        """Keeps what was handed over last until the next hand-over, after ``close`` and the end of the process too.

        Args:
            keep: Whether to; otherwise, ``close`` deletes it.

        Returns:
            Where it is; None for an engine that is not ``elsewhere``, or was handed nothing.
        """
        return None

    def hand_over_again(self, policy: nn.Module, renderer: Renderer, weights: Path) -> bool:
        """Starts with weights that an earlier process kept, in place of the policy's. Collective.

        Args:
            weights: What ``keep_weights`` returned.

        Returns:
            Whether they are still there.
        """
        return False

    def rest(self) -> None:  # noqa: B027 - an engine without memory of its own has nothing to free
        """Frees memory that generation alone needs, until the engine is used again."""

    def close(self) -> None:  # noqa: B027 - an engine without resources has nothing to release
        """Releases what the engine holds."""


def draw_responses(engine: Engine, requests: Sequence[Request], what: str = "generate") -> list[list[Response]]:
    """Has an engine draw responses, and makes sure that it drew what was asked for.

    Args:
        what: What stands before the progress bar, unless there is one already.

    Raises:
        ConfigError: the engine does not keep tokens, and was asked to.
        DataError: a response is missing, or belongs to another sample.
    """
    with engine.counting(sum(len(request.samples) for request in requests), name=what):
        written = engine.generate(requests)
    name = type(engine).__name__
    if len(written) != len(requests):
        raise DataError(f"the engine {name} returned responses to {len(written)} prompts instead of {len(requests)}.")
    for request, responses in zip(requests, written, strict=True):
        expected = [(request.prompt.id, sample.index) for sample in request.samples]
        if [(response.prompt_id, response.sample_index) for response in responses] != expected:
            raise DataError(
                f"the engine {name} returned {len(responses)} responses to the prompt '{request.prompt.id}' that are "
                f"not the {len(expected)} samples that it was asked for, in their order: nothing of them is used."
            )
        if request.keep_tokens and any(not len(r.tokens) == len(r.logprobs) == r.num_tokens for r in responses):
            raise ConfigError(
                f"the engine {name} does not return the tokens of its responses with their log-probabilities, which "
                "rollout.method needs: choose another engine, or a method that imitates (continuous, rloop)."
            )
    return written


def explain_cut_off(cut_off: int, drawn: int, max_new_tokens: int, option: str, what: str = "responses") -> str | None:
    """What was the matter and what to change, if most responses (or ``what`` it was) were cut off; else None."""
    if 2 * cut_off <= drawn:
        return None
    return (
        f"{cut_off:,} of {drawn:,} {what} were cut off at {max_new_tokens} tokens: raise {option} (or max_model_len, "
        "where the engine's context ends before)"
    )
