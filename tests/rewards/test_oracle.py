"""The oracle: what the data knows."""

from __future__ import annotations

import pytest

from mstar.errors import ConfigError
from mstar.rewards import Oracle
from mstar.types import Prompt

from .conftest import response  # type: ignore[import-not-found]


def test_the_oracle_knows_what_the_data_knows() -> None:
    known = Prompt("p", "?", reference_responses=("right",))
    assert Oracle().score([(known, [response("right"), response("wrong")])]) == [[(1.0,), (0.0,)]]
    with pytest.raises(ConfigError, match="prompt 'q' lacks"):
        Oracle().score([(Prompt("q", "?"), [response("right")])])
