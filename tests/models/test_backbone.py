"""Loading and freezing, and what is said about names that cannot be loaded."""

from __future__ import annotations

import copy
import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file
from transformers import PreTrainedConfig

from mstar.errors import ConfigError
from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
from mstar.models.export import save_model
from mstar.models.families import language_head
from mstar.models.trained_part import freeze
from mstar.rewards import RewardHost
from mstar.rewards.published import URSA, QwenMathPRM, QwenVLPRM


def one_sentence(error: pytest.ExceptionInfo[ConfigError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("load", [load_model, load_renderer])
def test_a_missing_model(load: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(str(tmp_path / "nowhere"))
    text = one_sentence(error)
    assert text == (
        f"model_name '{tmp_path / 'nowhere'}' is neither a folder nor a reachable model (there is no such folder, and "
        "a hub has no such names): give a Hugging Face folder or id."
    )


def test_a_model_with_terms_says_how_they_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, file: str, **_: Any) -> bool:
        raise OSError("You are trying to access a gated repo.\nMake sure to have access to it at https://hub/a/b.\n401")

    monkeypatch.setattr("mstar.models.backbone.file_exists", refuse)
    with pytest.raises(ConfigError, match=r"accept its terms.*'hf auth login'.*HF_TOKEN") as error:
        load_model("mstar-tests/gated")
    one_sentence(error)


def load_reward(kind: type[QwenMathPRM | QwenVLPRM | URSA], name: str) -> None:
    kind(name).load(RewardHost())


@pytest.mark.parametrize(
    "load", [load_model, load_renderer, *(partial(load_reward, kind) for kind in (QwenMathPRM, QwenVLPRM, URSA))]
)
@pytest.mark.parametrize("reason", [httpx2.ConnectError("no name"), OfflineModeIsEnabled("HF_HUB_OFFLINE")])
def test_the_hub_is_asked_once_where_it_cannot_be_reached(
    load: Any, reason: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(name: str, file: str, **_: Any) -> bool:
        asked.append((name, file))
        raise reason

    monkeypatch.setattr("mstar.models.backbone.file_exists", ask)
    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", lambda *_, **__: pytest.fail("Transformers asks, too"))
    with pytest.raises(ConfigError) as error:
        load("nobody/nothing")
    assert "(the hub cannot be reached, and its cache does not have it)" in one_sentence(error)
    assert asked == [("nobody/nothing", "config.json")]


@pytest.mark.parametrize("load", [load_model, load_renderer])
def test_a_folder_that_is_no_model(load: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(ConfigError, match="is a folder without a usable model"):
        load(str(tmp_path))


def test_a_model_that_reads_no_images(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ConfigError, match="is a folder without a usable model") as error:
        load_model(str(tmp_path))
    one_sentence(error)


def test_weights_that_are_cut_off(split_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(split_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="is a folder without a usable model") as error:
        load_model(str(folder))
    one_sentence(error)


def test_weights_that_are_missing_or_have_other_names_or_sizes(split_folder: Path, tmp_path: Path) -> None:
    """Transformers warns, and begins them at random."""
    folder = tmp_path / "model"
    shutil.copytree(split_folder, folder)
    weights = load_file(folder / "model.safetensors")
    parts = ("vision_model", "connector")
    language = {name: value for name, value in weights.items() if not any(part in name for part in parts)}
    wrapped = {f"base_model.model.{name}": value for name, value in weights.items()}
    embedding = "model.text_model.embed_tokens.weight"
    rows, width = weights[embedding].shape
    longer = weights | {embedding: torch.zeros(rows + 8, width)}
    for changed, said in (
        (language, rf"its files lack {len(weights) - len(language)} weights of Idefics3ForConditionalGeneration "
                   r"\('model\.connector\.modality_projection\.proj\.weight' is the first\): save the whole model"),
        (wrapped, rf"its files lack {len(weights)} weights .*, while they have 'base_model\.model\."),
        (longer, rf"'{re.escape(embedding)}' has the shape \({rows + 8}, {width}\) in its files, and .* it \({rows}, "),
    ):  # fmt: skip
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=said) as error:
            load_model(str(folder))
        one_sentence(error)


def test_a_processor_that_needs_a_package(split_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoProcessor

    def refuse(name: str, **_: Any) -> None:
        raise ImportError("\nSmolVLMVideoProcessor requires the Torchvision library but it was not found.\nSee there.")

    monkeypatch.setattr(AutoProcessor, "from_pretrained", refuse)
    with pytest.raises(ConfigError, match=r"\(pip install 'mstar\[processors\]'\): SmolVLM.* requires the Torchvision"):
        load_renderer(str(split_folder))


def test_an_unknown_dtype() -> None:
    with pytest.raises(ConfigError, match=r"dtype 'fp8' is unknown: choose one of float32, bfloat16, float16\."):
        load_model(EMBEDDED_MODEL, dtype="fp8")


def test_dtype_and_attention_reach_the_model(split_folder: Path) -> None:
    model = load_model(str(split_folder), dtype="bfloat16", attention="eager")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.config.get_text_config()._attn_implementation == "eager"
    assert load_model(EMBEDDED_MODEL, dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["tiny", "split", "llava"])
def test_each_part_is_found_and_together_they_are_all(name: str, request: pytest.FixtureRequest) -> None:
    whole = request.getfixturevalue(name).model
    total = sum(p.numel() for p in whole.parameters())
    counts = {}
    for part in ("vision", "projector", "language"):
        model = copy.deepcopy(whole)
        freeze(model, [part])  # type: ignore[list-item]
        counts[part] = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        assert counts[part] > 0
        assert language_head(model).weight.requires_grad == (part != "language")
    assert sum(counts.values()) == total


def test_a_part_that_the_model_does_not_have() -> None:
    class Bare(torch.nn.Module):
        """No parts at all."""

    with pytest.raises(ConfigError, match="Bare has no part named 'projector'; remove it from 'freeze'"):
        freeze(Bare(), ["projector"])


def test_weights_go_straight_to_their_device(tiny: Any, tmp_path: Path) -> None:
    save_model(tiny.model, tiny.renderer, tmp_path)
    model = load_model(str(tmp_path), dtype="bfloat16", device="meta")
    assert {value.device.type for value in (*model.parameters(), *model.buffers())} == {"meta"}
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    assert next(load_model(EMBEDDED_MODEL, device="meta").parameters()).is_meta
