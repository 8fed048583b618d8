"""An engine that answers must say how long it may."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch import nn

from mstar.errors import ConfigError
from mstar.generation import Engine, Request
from mstar.modules import PolicyModule
from mstar.rendering import Renderer
from mstar.types import Response


class Endless(Engine):
    """Does not say how long a response may be."""

    def start(self, policy: nn.Module, renderer: Renderer) -> None: ...

    def update_weights(self, policy: nn.Module) -> None: ...

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        raise AssertionError


def test_an_engine_without_a_length_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.engine 'Endless' has no max_new_tokens"):
        PolicyModule("mstar/tiny-idefics3", engine=Endless())
    with pytest.raises(ConfigError, match=r"rollout\.engine 'Endless' has no max_new_tokens"):
        PolicyModule("mstar/tiny-idefics3").use_engine(Endless(), "rollout.engine")
