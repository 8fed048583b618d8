"""When a run says that its policy has collapsed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mstar.callbacks.collapse import find_collapse

FIRST = {
    "entropy": 0.5, "response_length": 20.0, "temperature": 1.0, "prompts": 2000,
    "funnel": {"generated": 2000, "correct": 1000},
}  # fmt: skip


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({}, None),
        ({"entropy": 0.06, "response_length": 11.0, "funnel": {"generated": 500, "correct": 200}}, None),
        ({"entropy": 0.04}, "entropy is 0.040 nats a token, and was 0.500"),
        ({"entropy": 0.04, "temperature": 0.5}, None),
        ({"entropy": 0.04, "funnel": {"generated": 100, "correct": 95}}, None),
        ({"entropy": None}, None),
        ({"response_length": 9.0}, "responses have 9 tokens, and had 20"),
        ({"response_length": 41.0}, "responses have 41 tokens"),
        ({"funnel": {"generated": 2000, "correct": 780}}, "39% of the responses are right, and 50% were"),
        # Of as few prompts that is no sure fall.
        ({"prompts": 90, "funnel": {"generated": 100, "correct": 39}}, None),
        ({"labelled": FIRST | {"funnel": {"generated": 2000, "correct": 780}}, "pseudo_labels": {"voted": 50}}, None),
    ],
)
def test_the_rule(now: dict[str, Any], said: str | None) -> None:
    found = find_collapse(FIRST, {**FIRST, **now})
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert said in found


def test_a_share_that_only_varies_is_no_collapse() -> None:
    """64 prompts with 8 responses, of which a twentieth is right: shares of such iterations differ by a fifth often."""
    rng = np.random.default_rng(0)
    ease = rng.beta(0.2, 3.8, size=64)
    reports = [
        FIRST | {"prompts": 64, "funnel": {"generated": 512, "correct": int(rng.binomial(8, ease).sum())}}
        for _ in range(400)
    ]
    assert sum(now["funnel"]["correct"] < 0.8 * reports[0]["funnel"]["correct"] for now in reports) > 20
    assert not any(find_collapse(reports[0], now) for now in reports)
