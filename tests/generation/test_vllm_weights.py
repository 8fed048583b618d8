"""The weights that vLLM is sent."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from mstar.generation.vllm_weights import checkpoint_weights, trains_base_weights
from mstar.models.lora import LoraSettings
from mstar.models.trained_part import prepare_training

if TYPE_CHECKING:
    from tests.conftest import Policy


def test_weights_are_named_as_in_a_checkpoint_with_the_tied_head(tiny: Policy) -> None:
    state = tiny.model.state_dict()
    sent = dict(checkpoint_weights(tiny.model))
    assert sent.keys() == state.keys()
    assert "lm_head.weight" in sent
    assert all(torch.equal(value, state[name]) for name, value in sent.items())


def test_adapters_are_merged_or_left_out(tiny: Policy) -> None:
    model: Any = copy.deepcopy(tiny.model)
    prepare_training(model, [], lora=LoraSettings(rank=2, alpha=4, target="attention"))
    assert not trains_base_weights(model)
    assert trains_base_weights(tiny.model)
    layer = model.model.text_model.layers[0].self_attn.q_proj
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    name = "model.text_model.layers.0.self_attn.q_proj.weight"
    plain = tiny.model.state_dict()
    with torch.no_grad():
        expected = plain[name] + 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merged = dict(checkpoint_weights(model))
    assert merged.keys() == plain.keys()
    torch.testing.assert_close(merged[name], expected)
    apart = dict(checkpoint_weights(model, merge=False))
    assert apart.keys() == plain.keys()
    assert all(torch.equal(value, plain[n]) for n, value in apart.items())
