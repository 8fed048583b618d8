"""The choice of the attention kernel, for machines that this one is not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.errors import ConfigError, MissingExtraError
from mstar.models import attention
from mstar.models.attention import announce_attention, choose_attention
from mstar.models.backbone import load_model


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends to have a GPU of some generation with some packages."""
    from transformers.utils import import_utils

    def pretend(major: int, *packages: int) -> None:
        attention._runs.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (major, 0))
        monkeypatch.setattr(attention, "find_spec", lambda name: object() if packages else None)
        for version in (2, 4):
            monkeypatch.setattr(import_utils, f"is_flash_attn_{version}_available", lambda v=version: v in packages)

    yield pretend
    attention._runs.cache_clear()


@pytest.mark.parametrize(
    ("major", "packages", "chosen"),
    [
        (9, (2, 4), "flash_attention_4"),
        (9, (2,), "flash_attention_2"),
        (8, (2, 4), "flash_attention_2"),
        (8, (4,), None),
        (7, (2,), None),
        (9, (), None),
    ],
)
def test_auto_takes_the_newest_that_runs(gpu: Any, major: int, packages: tuple[int, ...], chosen: str | None) -> None:
    gpu(major, *packages)
    for requested in ("auto", None):
        assert choose_attention(requested, torch.bfloat16) == chosen
    # Flash-attention has no kernel for 32 bits.
    assert choose_attention("auto", torch.float32) is None


def test_without_a_gpu_auto_leaves_it_to_the_model() -> None:
    assert choose_attention("auto", torch.bfloat16) is None


def test_a_kernel_that_is_named_must_run(gpu: Any) -> None:
    assert choose_attention("sdpa", torch.float32) == "sdpa"
    gpu(8, 2)
    assert choose_attention("flash_attention_2", torch.bfloat16) == "flash_attention_2"
    with pytest.raises(ConfigError, match=r"needs 16-bit weights: set dtype to bfloat16, or attention to auto\."):
        choose_attention("flash_attention_2", torch.float32)
    with pytest.raises(ConfigError, match=r"'flash_attention_4' cannot run here .*: set attention to auto\."):
        choose_attention("flash_attention_4", torch.bfloat16)
    gpu(9)
    with pytest.raises(MissingExtraError, match=r"'flash_attention_2' needs the package 'flash-attn'.*mstar\[flash\]"):
        choose_attention("flash_attention_2", torch.bfloat16)
    with pytest.raises(ConfigError, match="attention 'flash' is unknown: choose one of auto, sdpa, eager"):
        choose_attention("flash", torch.bfloat16)


def test_the_choice_is_logged_once(split_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    announce_attention.cache_clear()
    with caplog.at_level(logging.INFO, logger="mstar"):
        for _ in range(2):
            load_model(str(split_folder))
        load_model(str(split_folder), attention="eager")
    said = [record.getMessage() for record in caplog.records if record.name.startswith("mstar")]
    assert said == ["attention: sdpa, weights: float32", "attention: eager, weights: float32"]


def test_a_model_without_flash_attention_falls_back(split_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mstar.models import backbone

    # Transformers refuses it here for want of the package, as it does for a model that does not know it.
    monkeypatch.setattr(backbone, "choose_attention", lambda requested, dtype: "flash_attention_2")
    model = load_model(str(split_folder), dtype="bfloat16")
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    with pytest.raises(ConfigError, match="needs a package that is not installed"):
        load_model(str(split_folder), dtype="bfloat16", attention="flash_attention_2")
