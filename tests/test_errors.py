"""What is said of settings that are out of their range."""

from __future__ import annotations

import math

import pytest

from mstar.errors import ConfigError, require_least, require_positive, require_share


def test_settings_that_are_not_set_and_bounds_that_belong_to_the_range_pass() -> None:
    require_least("x.", 0, a=0, b=None)
    require_positive("x.", a=0.1, b=None)
    for share, interval in ((0.0, "[0, 1)"), (1.0, "(0, 1]"), (0.0, "[0, 1]"), (1.0, "[0, 1]"), (None, "(0, 1]")):
        require_share("x", share, interval)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_what_must_be_above_0_is_named(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^x\.a is {value}, but it must be above 0\.$"):
        require_positive("x.", a=value)


@pytest.mark.parametrize(
    ("share", "interval"), [(0.0, "(0, 1]"), (1.0, "[0, 1)"), (-0.1, "[0, 1)"), (1.1, "(0, 1]"), (math.nan, "[0, 1]")]
)
def test_a_share_outside_its_interval_is_named_with_it(share: float, interval: str) -> None:
    with pytest.raises(ConfigError) as caught:
        require_share("x.a", share, interval)  # type: ignore[arg-type]
    assert str(caught.value) == f"x.a is {share}, but it is a share; choose from {interval}."
