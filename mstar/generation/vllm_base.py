"""What the engines by vLLM have in common, whether it runs in the training process or is asked by address."""

from __future__ import annotations

import logging
from typing import Any, Generic, TypeVar

import torch

from mstar.distributed import is_main
from mstar.errors import require_least, require_positive
from mstar.generation.base import Engine
from mstar.generation.drift import drift_bounds
from mstar.generation.vllm_families import require_proven, require_proven_language
from mstar.generation.vllm_prompts import never_drawn, shows_images
from mstar.models.finite import require_finite
from mstar.models.sharding import is_sharded
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
        """Takes in the model's family, for which vLLM must be proven right, and the length of the prompts."""
        require_proven(model_type, self._name)
        self._longest_prompt = longest_prompt

    def _check(self, policy: Any, renderer: Renderer, dtype: str) -> tuple[torch.dtype, float]:
        """Makes sure that vLLM can draw from a policy in a type (``auto``: the policy's), and finds out what it needs.

        Returns:
            The type, and the drift bound of the first hand-over.
        """
        require_proven(policy.config.model_type, self._name)
        require_proven_language(policy.config, self._name)
        renderer.check_thoughts()
        require_finite(policy.named_parameters(), "the policy cannot write responses")
        self._banned, self._pictures = never_drawn(policy, renderer), shows_images(renderer)
        own = next(p for p in policy.parameters() if p.is_floating_point())
        chosen: torch.dtype = own.dtype if dtype == "auto" else getattr(torch, dtype)
        # A sharded policy may compute in 16 bits with weights of 32.
        exact = chosen == torch.float32 == own.dtype and not is_sharded(policy)
        bounds = drift_bounds(exact, own.device)
        bound, self.drift_floor = bounds if self._given_bound is None else (self._given_bound, None)
        self.dtype, self.drift_bound = chosen, bound
        return chosen, bound

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
