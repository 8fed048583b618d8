"""Adapters: what is trained and kept, and exports that are ordinary models."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mstar.errors import ConfigError
from mstar.generation.vllm_weights import checkpoint_weights
from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.models.families import language_head
from mstar.models.lora import LoraSettings, has_lora, merged_state, plain_shell, save_adapter
from mstar.models.trained_part import prepare_training
from tests.models.adapters import adapted, logits


def test_new_adapters_compute_nothing_and_are_all_that_is_trained(tiny: Any) -> None:
    model = copy.deepcopy(tiny.model)
    prepare_training(model, [], LoraSettings(rank=4), seed=1)
    assert has_lora(model)
    assert not has_lora(tiny.model)
    assert type(model) is type(tiny.model)
    assert torch.equal(logits(model, tiny.renderer), logits(tiny.model, tiny.renderer))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in model.state_dict() if ".lora_" in name}
    # Seven linear layers in each of three decoder layers, two matrices each.
    assert len(trained) == 3 * 7 * 2
    assert all(".text_model." in name for name in trained)


@pytest.mark.parametrize(
    ("target", "frozen", "parts", "layers"),
    [
        ("attention", [], {"text_model"}, 3 * 4),
        ("all", [], {"text_model", "vision_model", "connector"}, 3 * 7 + 6 + 1),
        ("all", ["vision"], {"text_model", "connector"}, 3 * 7 + 1),
        ("all", ["vision", "projector"], {"text_model"}, 3 * 7),
        ("all", ["language"], {"vision_model", "connector"}, 6 + 1),
    ],
)
def test_the_target_and_what_is_frozen_say_which_layers(
    tiny: Any, target: Any, frozen: Any, parts: set[str], layers: int
) -> None:
    model = copy.deepcopy(tiny.model)
    prepare_training(model, frozen, LoraSettings(target=target))
    names = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    assert len(names) == layers
    assert {name.split(".")[1] for name in names} == parts
    assert not hasattr(language_head(model), "lora_A")


@pytest.mark.parametrize("target", ["language", "all"])
def test_a_part_is_trained_whole_beside_the_adapters(tiny: Any, target: Any) -> None:
    model = copy.deepcopy(tiny.model).to(torch.bfloat16)
    prepare_training(model, [], LoraSettings(rank=4, target=target, modules_to_save=("projector",)))
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert trained == {"model.connector.modality_projection.proj.weight": torch.float32}
    assert all(p.requires_grad for name, p in model.named_parameters() if ".lora_" in name)
    assert not any(hasattr(module, "lora_A") for module in model.model.connector.modules())


def test_what_is_trained_whole_is_there_and_is_not_frozen(tiny: Any) -> None:
    lora = LoraSettings(modules_to_save=["projector", "projector"])  # type: ignore[arg-type]
    assert lora == LoraSettings(modules_to_save=("projector",))
    with pytest.raises(ConfigError, match=r"trains the part 'projector', which model\.freeze names too"):
        prepare_training(copy.deepcopy(tiny.model), ["projector"], lora)
    bare = copy.deepcopy(tiny.model)
    bare.model.connector = nn.Identity()
    with pytest.raises(ConfigError, match="modules_to_save: Idefics3ForConditionalGeneration has no part named"):
        prepare_training(bare, [], lora)


@pytest.mark.parametrize(
    ("family", "target", "said"),
    [("qwen3_vl_moe", "language", True), ("qwen3_vl_moe", "attention", False), ("qwen3_vl", "all", False)],
)
def test_experts_without_linear_layers_are_told(
    architectures: Any, family: str, target: Any, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = architectures.tiny_model(family)
    fused = sum(value.numel() for name, value in model.named_parameters() if ".experts." in name)
    prepare_training(model, [], LoraSettings(rank=2, target=target))
    assert (f"model.lora: {fused:,} weights of the language model's experts" in caplog.text) is said


def test_nothing_is_left_to_adapt(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora\.target 'language' names no layer that model\.freeze leaves"):
        prepare_training(copy.deepcopy(tiny.model), ["language"], LoraSettings())


@pytest.mark.parametrize(("name", "value"), [("rank", 0), ("alpha", 0), ("dropout", 1.0)])
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"model.lora.{name} is {value}"):
        LoraSettings(**{name: value})  # type: ignore[arg-type]


def test_the_first_adapters_follow_from_the_seed_and_leave_the_global_state_alone(tiny: Any) -> None:
    def make(seed: int) -> Tensor:
        model = copy.deepcopy(tiny.model)
        prepare_training(model, [], LoraSettings(), seed=seed)
        weight: Tensor = model.model.text_model.layers[0].self_attn.q_proj.lora_A.default.weight
        return weight

    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, again, other = make(1), make(1), make(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["tiny", "split", "llava"])
def test_an_export_is_the_merged_model_and_changes_nothing(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    policy = request.getfixturevalue(name)
    model = adapted(policy, target="all")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    wanted = logits(model, policy.renderer)
    save_model(model, policy.renderer, tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert (wanted - logits(policy.model, policy.renderer)).abs().max() > 0.05

    exported = load_model(str(tmp_path))
    assert set(exported.state_dict()) == set(policy.model.state_dict())
    torch.testing.assert_close(logits(exported, load_renderer(str(tmp_path))), wanted, atol=1e-4, rtol=0)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja"}
    # Whoever loads a plain export of the base model finds the same files and names in this one.
    save_model(policy.model, policy.renderer, tmp_path / "base")
    from safetensors import safe_open

    with (
        safe_open(tmp_path / "model.safetensors", "pt") as merged,
        safe_open(tmp_path / "base/model.safetensors", "pt") as base,
    ):
        assert set(merged.keys()) == set(base.keys())
    merged_config, base_config = (
        [line for line in (folder / "config.json").read_text().splitlines() if '"dtype"' not in line]
        for folder in (tmp_path, tmp_path / "base")
    )
    assert merged_config == base_config


def test_a_merged_weight_by_hand(tiny: Any) -> None:
    model = adapted(tiny, alpha=6)
    layer = model.model.text_model.layers[2].mlp.down_proj
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    wanted = tiny.model.model.text_model.layers[2].mlp.down_proj.weight + 6 / 4 * product
    merged = merged_state(model)
    torch.testing.assert_close(merged["model.text_model.layers.2.mlp.down_proj.weight"], wanted)
    # What is made leaves the device at once; the rest stays.
    moved = merged_state(model, device="meta")
    made = {name for name, value in moved.items() if value.is_meta}
    assert made == {name for name in merged if ".text_model.layers." in name and "norm" not in name}
    # What has no adapter is passed on, not copied.
    embeddings = model.get_input_embeddings().weight
    assert merged["model.text_model.embed_tokens.weight"].data_ptr() == embeddings.data_ptr()


def test_adapters_of_a_bfloat16_model_are_merged_in_float32(tiny: Any) -> None:
    model = adapted(tiny).to(torch.bfloat16)
    merged = merged_state(model)
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}
    layer = model.model.text_model.layers[0].self_attn.v_proj
    product = layer.lora_B["default"].weight.float() @ layer.lora_A["default"].weight.float()
    wanted = (layer.base_layer.weight.float() + 32 / 4 * product).bfloat16()
    assert torch.equal(merged["model.text_model.layers.0.self_attn.v_proj.weight"], wanted)


def test_adapters_on_16_bit_weights_are_rounded_to_the_type_of_the_export_alone(tiny: Any, tmp_path: Path) -> None:
    base = copy.deepcopy(tiny.model).to(torch.bfloat16)
    model = adapted(SimpleNamespace(model=base))
    name = "model.text_model.layers.0.self_attn.v_proj"
    layer = model.get_submodule(name)
    with torch.no_grad():
        product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        wanted = layer.base_layer.weight.float() + 32 / 4 * product
    save_model(model, tiny.renderer, tmp_path, dtype=torch.float32)
    assert torch.equal(load_model(str(tmp_path)).state_dict()[f"{name}.weight"], wanted)
    sent = dict(checkpoint_weights(model, dtype=torch.float32))
    assert torch.equal(sent[f"{name}.weight"], wanted)


def test_adapters_on_16_bit_weights_are_trained_in_32(tiny: Any) -> None:
    model = copy.deepcopy(tiny.model).to(torch.bfloat16)
    prepare_training(model, [], LoraSettings(rank=4))
    types = {".lora_" in name: parameter.dtype for name, parameter in model.named_parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
    assert logits(model, tiny.renderer).dtype == torch.bfloat16


def test_saved_adapters_are_loaded_by_peft(tiny: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    model = adapted(tiny)
    save_adapter(model, tmp_path)
    base: Any = copy.deepcopy(tiny.model)
    loaded: Any = PeftModel.from_pretrained(base, str(tmp_path))
    assert torch.equal(logits(loaded, tiny.renderer), logits(model, tiny.renderer))


def test_the_shell_holds_no_weights(tiny: Any) -> None:
    shell: Any = plain_shell(adapted(tiny))
    assert {parameter.device.type for parameter in shell.parameters()} == {"meta"}
    assert not has_lora(shell)
    assert list(shell.state_dict()) == list(tiny.model.state_dict())


def test_settings_are_primitives_for_a_checkpoint() -> None:
    assert LoraSettings(**asdict(LoraSettings(rank=3))) == LoraSettings(rank=3)
    assert {type(value) for value in asdict(LoraSettings()).values()} <= {int, float, str, tuple}


def test_quantisation_without_its_package(split_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mstar.errors import MissingExtraError
    from mstar.models import quantization

    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"nf4' needs the package 'bitsandbytes': .*mstar\[qlora\]"):
        load_model(str(split_folder), quantization="nf4")


def test_what_is_asked_of_bitsandbytes(split_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForImageTextToText

    from mstar.models import quantization

    asked: dict[str, Any] = {}

    def load(name: str, **settings: Any) -> nn.Module:
        asked.update(settings)
        raise ValueError("enough")

    monkeypatch.setattr(quantization, "find_spec", lambda name: object())
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", load)
    with pytest.raises(ConfigError, match="enough"):
        load_model(str(split_folder), dtype="bfloat16", quantization="nf4")
    config = asked["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_compute_dtype) == (
        True, "nf4", torch.bfloat16,
    )  # fmt: skip
    from transformers.quantizers.quantizers_utils import should_convert_module

    patterns = config.llm_int8_skip_modules
    kept = ["lm_head", "model.visual.blocks.0.attn.qkv", "model.vision_tower.encoder.layer.0.mlp.fc1", "vpm.encoder.q",
            "llm.lm_head", "model.connector.modality_projection.proj", "model.visual.merger.mlp.0"]  # fmt: skip
    assert [name for name in kept if should_convert_module(name, patterns)] == []
    quantised = ["model.language_model.layers.0.self_attn.q_proj", "llm.model.layers.0.mlp.up_proj"]
    assert [name for name in quantised if should_convert_module(name, patterns)] == quantised


def test_the_embedded_model_is_not_quantised() -> None:
    with pytest.raises(ConfigError, match=r"cannot be quantised: set model\.lora\.quantization to none"):
        load_model("mstar/tiny-idefics3", quantization="nf4")
