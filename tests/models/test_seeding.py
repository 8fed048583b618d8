from __future__ import annotations

import pytest
import torch

from mstar.models.seeding import seeded


def test_what_is_drawn_follows_from_the_seed_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    lazily: list[object] = []
    # What torch.manual_seed has done to GPUs that are used later.
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lazily.append)
    torch.manual_seed(1)
    expected = torch.rand(3)
    lazily.clear()
    torch.manual_seed(7)
    wanted = torch.randn(5)
    torch.manual_seed(1)
    lazily.clear()
    with seeded(7):
        assert torch.equal(torch.randn(5), wanted)
    assert torch.equal(torch.rand(3), expected)
    assert not lazily


def test_one_seed_gives_the_same_weights_wherever_new_tensors_go() -> None:
    """Lightning loads models with a GPU as that place; this one every machine has."""
    with torch.device("meta"), seeded(3):
        drawn = torch.rand(2)
    with seeded(3):
        assert torch.equal(drawn, torch.rand(2))
