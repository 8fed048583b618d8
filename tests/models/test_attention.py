"""The choice of the attention kernel, for machines that this one is not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.errors import ConfigError
from mstar.models import attention
from mstar.models.attention import announce, choose_attention, kernel_of
from mstar.models.backbone import load_model
from mstar.models.precision import Precision


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends to have a GPU of some generation with some packages."""
    from transformers.utils import import_utils

    def pretend(major: int, *packages: int) -> None:
        attention._runs.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (major, 0))
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
    with pytest.raises(ConfigError, match=r"16 bits alone: set trainer\.precision to bf16-mixed .*, or attention to"):
        choose_attention("flash_attention_2", torch.float32)
    with pytest.raises(ConfigError, match=r"'flash_attention_4' cannot run here: .*: set attention to auto\."):
        choose_attention("flash_attention_4", torch.bfloat16)
    gpu(9)
    with pytest.raises(ConfigError, match=r"'flash_attention_2' cannot run here: .*--no-build-iso"):
        choose_attention("flash_attention_2", torch.bfloat16)
    with pytest.raises(ConfigError, match="attention 'flash' is unknown: choose one of auto, sdpa, eager"):
        choose_attention("flash", torch.bfloat16)


def test_pictures_that_are_read_both_ways_are_not_given_to_flash_attention(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its masks have no place for that in Transformers: they would be read from left to right, without a word."""
    from transformers import AutoModelForImageTextToText, Gemma3Config, Gemma4Config, LlavaConfig

    asked = []

    def load(*_: object, **settings: object) -> None:
        asked.append(settings["attn_implementation"])
        raise OSError("there are no weights")

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", load)
    gpu(9, 2, 4)
    small, large = Gemma4Config(), Gemma4Config(text_config={"use_bidirectional_attention": "vision"})
    for number, config in enumerate((LlavaConfig(), Gemma3Config(), small, large)):
        folder = str(tmp_path / str(number))
        config.save_pretrained(folder)
        for kind in ("auto", "sdpa", "flash_attention_2"):
            with pytest.raises(ConfigError, match=r"there are no weights|'gemma[34]', whose tokens of a picture see"):
                load_model(folder, dtype="bfloat16", attention=kind)
    flash, sdpa = ["flash_attention_4", "sdpa", "flash_attention_2"], [None, "sdpa"]
    assert asked == [*flash, *sdpa, *flash, *sdpa]


def test_the_choice_is_logged_once(split_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    announce.cache_clear()
    with caplog.at_level(logging.INFO, logger="mstar"):
        for _ in range(2):
            announce("policy", Precision.of("bf16-mixed", torch.float32), kernel_of(load_model(str(split_folder))))
        announce("MPRM", Precision(), kernel_of(load_model(str(split_folder), attention="eager")))
    said = [record.getMessage() for record in caplog.records if record.name.startswith("mstar")]
    assert said == [
        "policy: computes in bfloat16 (autocast) with weights in float32; attention sdpa",
        "MPRM: computes in float32 with weights in float32; attention eager",
    ]


def test_the_kernel_follows_from_what_is_computed(
    gpu: Any, split_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With float32 weights under autocast, flash-attention is found; with those alone it is not."""
    from mstar.models import backbone

    gpu(8, 2)
    asked = []
    choose = backbone.choose_attention
    monkeypatch.setattr(backbone, "choose_attention", lambda *given: asked.append(choose(*given)))
    load_model(str(split_folder), compute=torch.bfloat16)
    load_model(str(split_folder))
    load_model(str(split_folder), dtype="bfloat16")
    assert asked[1::2] == ["flash_attention_2", None, "flash_attention_2"]


def test_a_model_without_flash_attention_falls_back(split_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mstar.models import backbone

    # Transformers refuses it here for want of the package, as it does for a model that does not know it.
    monkeypatch.setattr(backbone, "choose_attention", lambda *_: "flash_attention_2")
    model = load_model(str(split_folder), dtype="bfloat16")
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    with pytest.raises(ConfigError, match="needs a package that is not installed"):
        load_model(str(split_folder), dtype="bfloat16", attention="flash_attention_2")
