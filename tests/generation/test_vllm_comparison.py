"""Reading weights back from a model that is built as vLLM's are; the real ones are in tests/vllm."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from mstar.generation.vllm_comparison import HeldWeights, compare_adapters, compare_named
from mstar.generation.vllm_weights import checkpoint_weights
from mstar.models.lora import LoraSettings
from mstar.models.trained_part import prepare_training

if TYPE_CHECKING:
    from tests.conftest import Policy

FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
DTYPE = torch.bfloat16


def compare_weights(held: HeldWeights, policy: nn.Module, *, merge: bool = True) -> tuple[int, list[str]]:
    return compare_named(held, checkpoint_weights(policy, merge=merge, dtype=DTYPE))


def engine_like(model: Any, *, number: int = 0, size: int = 1) -> nn.Module:
    """The weights of a model as vLLM would hold them: cast, renamed, fused, padded, packed, split over GPUs."""
    root = nn.Module()
    untyped: Any = root
    untyped.packed_modules_mapping = FUSED
    rename = SimpleNamespace(map_name=lambda name: name.replace("model.text_model.", "language."))
    untyped.hf_to_vllm_mapper = SimpleNamespace(get_rename_mapper=lambda: rename)
    parts: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
    for name, value in model.state_dict().items():
        path, _, kind = rename.map_name(name).rpartition(".")
        parent, _, last = path.rpartition(".")
        fused = next((f for f, names in FUSED.items() if last in names), None) if "language" in path else None
        parts.setdefault(f"{parent}.{fused}" if fused else path, {}).setdefault(kind, {})[last] = value.to(DTYPE)
    for path, kinds in parts.items():
        module: Any = root
        for step in path.split("."):
            if not hasattr(module, step):
                module.add_module(step, nn.Module())
            module = getattr(module, step)
        for kind, values in kinds.items():
            rows = list(values.values())
            module.tp_size, module.tp_rank = size, number
            if len(rows) > 1:
                module.output_sizes = [len(row) for row in rows]
                rows = [row.chunk(size)[number] for row in rows]
            whole = torch.cat(rows)
            if "down_proj" in path:
                whole = whole.chunk(size, dim=1)[number]
            if "embed_tokens" in path or path == "lm_head":
                first = len(whole) * number // size
                last = len(whole) * (number + 1) // size
                module.shard_indices = SimpleNamespace(org_vocab_start_index=first, org_vocab_end_index=last)
                whole = torch.cat([whole[first:last], torch.zeros(7, whole.shape[1], dtype=DTYPE)])
            module.register_parameter(kind, nn.Parameter(whole.clone(), requires_grad=False))
    return root


def pack(module: Any) -> None:
    """Hides a linear layer's weight as vLLM does on a CPU."""
    weight = module.weight.detach().clone()
    module.input_size = weight.shape[1]
    module.cpu_linear = lambda x, _, bias: nn.functional.linear(x, weight, bias)
    module.weight = nn.Parameter(torch.empty(0, dtype=DTYPE), requires_grad=False)
    module.packed = weight


@pytest.mark.parametrize(("number", "size"), [(0, 1), (0, 2), (1, 2)])
def test_every_tensor_is_compared_wherever_it_is(number: int, size: int, tiny: Policy) -> None:
    engine: Any = engine_like(tiny.model, number=number, size=size)
    layer = engine.language.layers[0] if hasattr(engine.language, "__getitem__") else engine.language.layers
    for module in list(layer.modules()):
        if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() == 2:
            pack(module)
    names = list(tiny.model.state_dict())
    held = HeldWeights(engine, DTYPE)
    assert compare_weights(held, tiny.model) == (len(names), [])
    assert held.unread() == []
    # Of any of them the smallest change that the engine's type can show is found, and nothing else.
    other: Any = copy.deepcopy(tiny.model)
    with torch.no_grad():
        for name, value in other.state_dict().items():
            if name == "lm_head.weight":  # tied
                continue
            place = value.view(-1)[::5]  # in the part of either process
            before = place.clone()
            place.add_(place.abs() / 64 + 1e-6)
            wrong = compare_weights(HeldWeights(engine, DTYPE), other)[1]
            assert wrong == ([name, "lm_head.weight"] if "embed_tokens" in name else [name])
            place.copy_(before)


def test_a_change_that_the_type_cannot_show_is_none(tiny: Policy) -> None:
    engine, other = engine_like(tiny.model), copy.deepcopy(tiny.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(parameter.to(DTYPE).float() * (1 + 1e-5))
    exact = engine_like(other)
    assert compare_weights(HeldWeights(exact, DTYPE), other)[1] == []
    assert compare_weights(HeldWeights(engine, DTYPE), other)[1] == []
    # What is not a number on both sides is equal; on one side alone it is not.
    other.model.text_model.norm.weight.data[3] = float("nan")  # type: ignore[operator,union-attr]
    assert compare_weights(HeldWeights(exact, DTYPE), other)[1] == ["model.text_model.norm.weight"]
    assert compare_weights(HeldWeights(engine_like(other), DTYPE), other)[1] == []


def test_what_cannot_be_read_is_named(tiny: Policy) -> None:
    engine: Any = engine_like(tiny.model)
    engine.vision_extra = nn.Linear(2, 2)
    held = HeldWeights(engine, DTYPE)
    compare_weights(held, tiny.model)
    assert held.unread() == ["vision_extra.weight", "vision_extra.bias"]


def test_a_bias_that_the_engine_leaves_out_is_wrong_unless_it_is_zero(tiny: Policy) -> None:
    engine: Any = engine_like(tiny.model)
    name = "model.connector.modality_projection.proj.bias"
    other: Any = copy.deepcopy(tiny.model)
    layer = other.model.connector.modality_projection.proj
    layer.bias = nn.Parameter(torch.zeros(len(layer.weight)))
    assert compare_weights(HeldWeights(engine, DTYPE), other)[1] == []
    layer.bias.data[1] = 1.0
    assert compare_weights(HeldWeights(engine, DTYPE), other)[1] == [name]


def test_adapters_are_compared_with_their_scale(tiny: Policy) -> None:
    model: Any = copy.deepcopy(tiny.model)
    prepare_training(model, [], lora=LoraSettings(rank=2, alpha=6, target="attention"))
    engine: Any = engine_like(tiny.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_()
    for path, module in list(engine.named_modules()):
        if path.endswith(("qkv_proj", "o_proj")):
            inner = nn.Module()
            inner.__dict__.update({**module.__dict__, "_modules": {}})
            module.base_layer = inner
            source = path.replace("language.", "model.text_model.")
            names = [source.replace("qkv_proj", n) for n in FUSED["qkv_proj"]] if "qkv" in path else [source]
            layers = [model.get_submodule(n) for n in names]
            module.lora_a_stacked, module.lora_b_stacked = [], []
            for layer in layers:
                a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                padded_a, padded_b = torch.zeros(1, 1, 8, a.shape[1]), torch.zeros(1, 1, b.shape[0], 8)
                padded_a[0, 0, :2], padded_b[0, 0, :, :2] = a, 3.0 * b.to(DTYPE)
                module.lora_a_stacked.append(padded_a.to(DTYPE))
                module.lora_b_stacked.append(padded_b.to(DTYPE))
    adapters = [name for name, _ in model.named_parameters() if ".lora_" in name]
    held = HeldWeights(engine, DTYPE)
    assert compare_weights(held, model, merge=False)[1] == []
    assert compare_adapters(held, model) == (len(adapters), [])
    with torch.no_grad():
        for name in adapters:
            parameter = model.get_parameter(name)
            before = parameter.clone()
            parameter[1, 1] += 0.5
            assert compare_adapters(held, model)[1] == [name]
            parameter.copy_(before)


@pytest.mark.parametrize(("number", "size"), [(0, 1), (0, 2), (1, 2)])
def test_what_is_fused_in_the_checkpoint_too_is_split_by_its_parts(number: int, size: int) -> None:
    """As ``attn.qkv`` in the vision towers of Qwen2.5-VL and Qwen3-VL, by vLLM's ``QKVParallelLinear``."""
    whole = {"attn.qkv.weight": torch.randn(12, 5), "attn.qkv.bias": torch.randn(12)}
    engine: Any = nn.Module()
    engine.attn = nn.Module()
    engine.attn.qkv = nn.Module()
    layer: Any = engine.attn.qkv
    layer.tp_size, layer.tp_rank, layer.output_sizes = size, number, [4, 4, 4]
    for name, value in whole.items():
        held = torch.cat([part.chunk(size)[number] for part in value.chunk(3)])
        layer.register_parameter(name.rpartition(".")[2], nn.Parameter(held, requires_grad=False))
    held_weights = HeldWeights(engine, torch.float32)
    assert compare_named(held_weights, whole.items()) == (2, [])
    assert held_weights.unread() == []
    for name, value in whole.items():
        before = value.clone()
        value[[2 * number, 4 + 2 * number]] += 1.0  # in this process's part
        assert compare_named(held_weights, whole.items())[1] == [name]
        value.copy_(before)
