"""What a class keeps of the settings of the one whose place it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.cli.kept_settings import find_kept

CONFIG = """
rollout:
  temperature: {class_path: mstar.temperature.AdaptiveTemperature, init_args: {minimum: 0.5, step: 0.25}}
  engine:
    class_path: mstar.generation.TransformersEngine
    init_args: {max_new_tokens: 99, batch_size: 8}
data: {train: {class_path: mstar.prompts.TinyDice, init_args: {split: pool, size: 40}}}
"""
CLASSES = """
from mstar.prompts import PromptSource, TinyDice
from mstar.temperature import TemperatureController

class Bars(PromptSource):
    def __init__(self, size: int = 4, split: str = "pool") -> None: ...

class Finer(TinyDice):
    def __init__(self, **settings) -> None: ...

class Swing(TemperatureController):
    def __init__(self, minimum: float = 0.7, step: float = 0.1, maximum: float = 1.0) -> None: ...
"""


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--data.train", "kept_classes.Bars"], ["data.train: Bars, in the place of TinyDice, keeps its size 40"]),
        (["--data.train=kept_classes.Bars", "--data.train.size", "3"], []),
        (["--data.train=mstar.prompts.TinyDice"], []),
        # It is made of that class.
        (["--data.train=kept_classes.Finer"], []),
        (
            ["--rollout.temperature", "kept_classes.Swing", "--rollout.temperature.step=0.5"],
            ["rollout.temperature: Swing, in the place of AdaptiveTemperature, keeps its minimum 0.5"],
        ),
        (
            ["--config", "other.yaml"],
            ["rollout.engine: VllmEngine, in the place of TransformersEngine, keeps its max_new_tokens 99"],
        ),
    ],
)
def test_settings_of_the_same_name_stay_and_it_is_said(
    flags: list[str], kept: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "other.yaml").write_text("rollout: {engine: {class_path: mstar.generation.VllmEngine}}\n")
    (tmp_path / "kept_classes.py").write_text(CLASSES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # type: ignore[no-untyped-call]
    assert list(find_kept(["fit", "--config=run.yaml", *flags])) == kept
