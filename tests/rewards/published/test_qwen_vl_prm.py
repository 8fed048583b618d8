"""Qwen-VL-PRM's form, turn by turn."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from mstar.rewards.published import QwenVLPRM

from .conftest import (  # type: ignore[import-not-found]
    FAMILIES,
    QUESTION,
    answers,
    dice,
    end_of,
    make_twin,
    same,
    turn_by_turn,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_qwen_vl_prm_is_asked_turn_by_turn(tiny_families: ModuleType, tmp_path: Path, family: str) -> None:
    twin = make_twin(tiny_families, family, tmp_path)
    reward = QwenVLPRM(twin.folder, batch_size=2)
    gap = "\n" if family == "internvl" else ""
    first = f"<image>{gap}### Question:\n{QUESTION}\n\n### Solution Process:\n"
    same(answers(reward, dice()), turn_by_turn(twin, reward.system, first, end_of(family)))
