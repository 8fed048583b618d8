"""What the engines by vLLM have in common, whether it runs in the training process or is asked by address."""

from __future__ import annotations

import logging
from typing import Any, Generic, TypeVar

from torch import nn

from mstar.distributed import is_main
from mstar.errors import require_least, require_positive
from mstar.generation.base import Engine
from mstar.generation.drift import drift_bounds
from mstar.generation.vllm_families import require_proven, require_proven_language
from mstar.generation.vllm_prompts import never_drawn, shows_images
from mstar.models.finite import require_finite
from mstar.rendering import Renderer

_log = logging.getLogger(__name__)

Session = TypeVar("Session")


class VllmBase(Engine, Generic[Session]):
    """An engine by vLLM, which runs from ``start`` to ``close`` as a session.

    Raises:
        ConfigError: a value cannot work.
    """

    continuous = True

    def __init__(self, max_new_tokens: int, drift_bound: float | None, *, progress: bool) -> None:
        self._name = type(self).__name__
        require_least(f"{self._name}: ", max_new_tokens=max_new_tokens)
        require_positive(f"{self._name}: ", drift_bound=drift_bound)
        self.max_new_tokens = max_new_tokens
        self.drift_bound = self._given_bound = drift_bound
        self.progress = progress
        self._longest_prompt: int | None = None
        self._banned: list[int] = []
        self._pictures = False
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The running vLLM.

        Raises:
            RuntimeError: ``start`` was not called.
        """
        if self._session is None:
            raise RuntimeError(f"{self._name} was used before start.")
        return self._session

    def expect(self, model_type: str, longest_prompt: int | None = None) -> None:
        """Takes in the model's family, and the length of the prompts.

        Raises:
            ConfigError: the family is not one for which vLLM is proven right.
        """
        require_proven(model_type, self._name)
        self._longest_prompt = longest_prompt

    def _check(self, policy: nn.Module, renderer: Renderer) -> None:
        """Makes sure that vLLM can draw from a policy, and finds out what of it vLLM must be told.

        Raises:
            ConfigError: the family is not one for which vLLM is proven right, or the weights are not finite numbers.
        """
        untyped: Any = policy
        require_proven(untyped.config.model_type, self._name)
        require_proven_language(untyped.config, self._name)
        require_finite(policy.named_parameters(), "the policy cannot write responses")
        self._banned, self._pictures = never_drawn(policy, renderer), shows_images(renderer)

    def _set_bounds(self, policy: nn.Module, *, exact: bool) -> float:
        """Sets how far the engine's log-probabilities may be from the policy's, and returns it."""
        bounds = drift_bounds(exact, next(policy.parameters()).device)
        bound, self.drift_floor = bounds if self._given_bound is None else (self._given_bound, None)
        self.drift_bound = bound
        return bound

    def _warn_if_short(self, longest: int, option: str) -> None:
        """Tells the user if vLLM has room for fewer tokens than a prompt and its response may have."""
        wanted = (self._longest_prompt or 1) + self.max_new_tokens  # a prompt of unknown length has at least one
        if longest < wanted and is_main():
            _log.warning(
                "%s is %d tokens, but a prompt with its response may have %d: what is longer is cut off or left "
                "without responses",
                *(option, longest, wanted),
            )


def tell_left_out(prompt_id: str, fault: str) -> None:
    """Says that vLLM cannot be given a prompt."""
    _log.warning("prompt '%s' is left without responses: %s.", prompt_id, fault)
