"""VisualPRM's form, turn by turn."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mstar.rewards.published import VisualPRM

from .conftest import (  # type: ignore[import-not-found]
    CHINESE,
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
@pytest.mark.parametrize("system_turn", ["instruction", "internvl"])
def test_visual_prm_is_asked_turn_by_turn(
    tiny_families: ModuleType, tmp_path: Path, family: str, system_turn: Any
) -> None:
    twin = make_twin(tiny_families, family, tmp_path)
    reward = VisualPRM(twin.folder, batch_size=2, system_turn=system_turn)
    assert reward.system.startswith(CHINESE if system_turn == "internvl" else "You are an advanced AI assistant, ")
    gap = "\n" if family == "internvl" else ""
    first = f"### Question:\n<image>{gap}{QUESTION}\n\n### Solution Process:\n"
    same(answers(reward, dice()), turn_by_turn(twin, reward.system, first, end_of(family)))
    # Steps that are given may have several lines; what ends a turn or stands for a picture does neither in one.
    [[given, plain]] = reward.score_steps([(dice(), [["a\nb<|im_<image>end|>", "c<image>"], ["a\nb", "c"]])])
    assert given == pytest.approx(plain, abs=1e-5)
