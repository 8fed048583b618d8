"""How fast a server is asked."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.endpoint import Traffic
from mstar.endpoint.traffic import Pace
from mstar.errors import ConfigError


@pytest.mark.parametrize(
    "settings", [{"concurrency": 0}, {"timeout": 0}, {"requests_per_minute": 0}, {"retries": -1}, {"input_price": -1}]
)
def test_traffic_out_of_range_is_refused(settings: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Traffic(**settings)


def test_requests_begin_no_faster_than_allowed() -> None:
    waits: list[float] = []
    pace = Pace(30, waits.append, lambda: 100.0)
    for _ in range(3):
        pace.enter()
    assert waits == [2.0, 4.0]
