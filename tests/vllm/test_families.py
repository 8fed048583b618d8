"""The families whose processors need torchvision, which only the environment of vLLM has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.rendering import Renderer
from mstar.types import Prompt

pytestmark = pytest.mark.vllm

NAMES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "llava_onevision")
FAMILIES = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def folder_of(tiny_families: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the Hugging Face folder of a family, once."""
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            model, processor = tiny_families.build(name, tiny_families.Size())
            made[name] = tmp_path_factory.mktemp(name)
            save_model(model, Renderer(processor), made[name])
        return made[name]

    return find


@pytest.fixture
def loaded(name: str, folder_of: Callable[[str], Path]) -> tuple[Any, Renderer]:
    """The family's model and renderer, loaded as a user's are."""
    folder = str(folder_of(name))
    model = load_model(folder).eval()
    return model, load_renderer(folder, model)


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Transformers' processors warn of."""
    from transformers import processing_utils

    said: list[str] = []
    monkeypatch.setattr(processing_utils.logger, "warning", lambda message, *_: said.append(str(message)))
    return said


@FAMILIES
def test_generation_and_scoring(name: str, loaded: tuple[Any, Renderer], checks: Any) -> None:
    model, renderer = loaded
    checks.check_shared_prefill(model, renderer)
    checks.check_generation(model, renderer)
    checks.check_scoring(copy.deepcopy(model), renderer)
    checks.check_parts(model)


@FAMILIES
def test_rendering_warns_of_nothing(loaded: tuple[Any, Renderer], warned: list[str]) -> None:
    # SmolVLM's processor did at every prompt, of arguments that it had added itself.
    loaded[1].render_prompt(Prompt("one", "Even?"))
    assert warned == []


@FAMILIES
def test_training_and_export(name: str, folder_of: Callable[[str], Path], checks: Any, tmp_path: Path) -> None:
    checks.check_training(folder_of(name), tmp_path)
