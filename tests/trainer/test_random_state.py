"""Random numbers go on where they were."""

from __future__ import annotations

from pathlib import Path

import torch

from mstar.trainer.random_state import random_state, restore_random_state


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    torch.save(random_state(), tmp_path / "state.pt")
    first = draw()
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == first
