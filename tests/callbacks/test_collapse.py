"""When a run says that its policy has collapsed."""

from __future__ import annotations

from typing import Any

import pytest

from mstar.callbacks.collapse import find_collapse

FIRST = {
    "entropy": 0.5, "response_length": 20.0, "temperature": 1.0, "funnel": {"generated": 100, "correct": 50}
}  # fmt: skip


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({}, None),
        ({"entropy": 0.06, "response_length": 11.0, "funnel": {"generated": 50, "correct": 20}}, None),
        ({"entropy": 0.04}, "entropy is 0.040 nats a token, and was 0.500"),
        ({"entropy": 0.04, "temperature": 0.5}, None),
        ({"entropy": 0.04, "funnel": {"generated": 100, "correct": 95}}, None),
        ({"entropy": None}, None),
        ({"response_length": 9.0}, "responses have 9 tokens, and had 20"),
        ({"response_length": 41.0}, "responses have 41 tokens"),
        ({"funnel": {"generated": 100, "correct": 39}}, "39% of the responses are right, and 50% were"),
        ({"labelled": {"funnel": {"generated": 100, "correct": 39}}, "pseudo_labels": {"voted": 50}}, None),
    ],
)
def test_the_rule(now: dict[str, Any], said: str | None) -> None:
    found = find_collapse(FIRST, {**FIRST, **now})
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert said in found
