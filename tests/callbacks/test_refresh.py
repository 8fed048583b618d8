"""When and where the MPRM is retrained; the retraining itself is in tests/integration/test_resume.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mstar.callbacks.refresh
from mstar.annotation import AnnotationSettings
from mstar.callbacks import RewardModelRefresh
from mstar.errors import ConfigError
from mstar.generation import TransformersEngine
from mstar.grading import ExactGrader
from mstar.modules import PolicyModule
from mstar.prompts import TinyDice
from mstar.prompts.prompt_check import PromptCheck
from mstar.storage import RunDirectory


class Stopped(Exception):
    """Raised instead of annotating."""


@pytest.fixture
def annotated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, AnnotationSettings]]:
    seen: list[tuple[Path, AnnotationSettings]] = []

    def annotate(prompts: Any, engine: Any, grader: Any, settings: AnnotationSettings, output: Path, **_: Any) -> None:
        seen.append((output, settings))
        raise Stopped

    monkeypatch.setattr(mstar.callbacks.refresh, "annotate", annotate)
    return seen


def start(root: Path, iteration: int = 2, seed: int = 0, **settings: Any) -> Path:
    refresh = RewardModelRefresh([2], TinyDice("refresh", 4), **settings)
    policy = PolicyModule("mstar/tiny-idefics3")
    policy.configure_model()
    check = PromptCheck(policy.renderer)
    return refresh.run(policy, TransformersEngine(), ExactGrader(), check, RunDirectory(root), iteration, seed)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [({"iterations": [0]}, "iterations count from 1"), ({"iterations": [2], "epochs": 0}, "epochs is 0")],
)
def test_settings_that_cannot_work(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        RewardModelRefresh(prompts=TinyDice("refresh", 4), **arguments)


def test_each_setting_and_iteration_has_a_folder_of_its_own(
    tmp_path: Path, annotated: list[tuple[Path, AnnotationSettings]]
) -> None:
    variants: list[dict[str, Any]] = [{}, {}, {"lr": 1e-3}, {"epochs": 2}, {"iteration": 3}, {"seed": 1}]
    for settings in variants:
        with pytest.raises(Stopped):
            start(tmp_path, **settings)
    folders = [output.parent.name for output, _ in annotated]
    assert folders[0] == folders[1]
    assert len(set(folders)) == 5
    assert folders[0].startswith("0002-")
    assert annotated[0][0].parent.parent == tmp_path / "mprm"
    assert annotated[0][1].seed != annotated[4][1].seed


def test_a_whole_model_is_found_again(tmp_path: Path, annotated: list[tuple[Path, AnnotationSettings]]) -> None:
    with pytest.raises(Stopped):
        start(tmp_path)
    model = annotated[0][0].parent / "model"
    model.mkdir(parents=True)
    assert start(tmp_path) == model
    assert len(annotated) == 1
