"""Weights for decoding: what is computed with them, and that nothing is left of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mstar.models.decoding_weights import decoding_weights
from mstar.models.families import family_of
from mstar.models.lora import merged_state, plain_shell
from tests.models.adapters import adapted, logits


def identities(model: nn.Module) -> list[tuple[str, int, int, Tensor]]:
    """Every weight: its name, which object it is, its version and its values."""
    return [(name, id(p), p._version, p.detach().clone()) for name, p in model.named_parameters(remove_duplicate=False)]


def assert_untouched(model: nn.Module, before: list[tuple[str, int, int, Tensor]]) -> None:
    after = identities(model)
    assert [item[:3] for item in after] == [item[:3] for item in before]
    assert all(torch.equal(a[3], b[3]) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["tiny", "split", "llava"])
def test_merged_is_what_an_export_computes(name: str, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    policy = request.getfixturevalue(name)
    model = adapted(policy, dtype, target="all")
    before, apart = identities(model), logits(model, policy.renderer)
    exported = plain_shell(model).to_empty(device="cpu").to(dtype)
    exported.load_state_dict(merged_state(model))
    for own, other in zip(exported.buffers(), copy.deepcopy(policy.model).buffers(), strict=True):
        own.copy_(other)
    wanted = logits(exported.eval(), policy.renderer)
    with decoding_weights(model, "merged"):
        assert not any(hasattr(module, "lora_A") for module in model.modules())
        assert torch.equal(logits(model, policy.renderer), wanted)
    assert not torch.equal(apart, wanted)
    assert_untouched(model, before)
    assert torch.equal(logits(model, policy.renderer), apart)
    with decoding_weights(model, "apart"):
        assert torch.equal(logits(model, policy.renderer), apart)


def test_a_connector_that_is_trained_beside_adapters_is_left_alone(tiny: Any) -> None:
    model = adapted(tiny, torch.bfloat16, modules_to_save=("projector",))
    connector = model.model.connector.modality_projection.proj.weight
    assert connector.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before, apart = identities(model), logits(model, tiny.renderer)
        with decoding_weights(model, "merged"):
            assert not any(hasattr(module, "lora_A") for module in model.modules())
            assert model.model.connector.modality_projection.proj.weight is connector
            assert not torch.equal(logits(model, tiny.renderer), apart)
        assert torch.equal(logits(model, tiny.renderer), apart)
    assert_untouched(model, before)


def test_an_error_leaves_nothing_behind(tiny: Any) -> None:
    model = adapted(tiny)
    before, apart = identities(model), logits(model, tiny.renderer)
    for error in (RuntimeError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), torch.autocast("cpu", dtype=torch.bfloat16), decoding_weights(model, "merged"):
            raise error
    assert_untouched(model, before)
    assert torch.equal(logits(model, tiny.renderer), apart)


@pytest.mark.parametrize("adapters", ["merged", "apart"])
@pytest.mark.parametrize("name", ["tiny", "split", "llava"])
def test_autocast_computes_the_same_with_copies(name: str, adapters: Any, request: pytest.FixtureRequest) -> None:
    policy = request.getfixturevalue(name)
    for model in (policy.model, adapted(policy)):
        before = identities(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            wanted = logits(model, policy.renderer)
            with decoding_weights(model, adapters):
                linear = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
                language = [m for n, m in linear if family_of(model).part_of(n) == "language"]
                assert {p.dtype for m in language for p in m.parameters()} == {torch.bfloat16}
                got = logits(model, policy.renderer)
        if model is policy.model or adapters == "apart":
            assert torch.equal(got, wanted)
        else:
            assert (got - wanted).abs().mean() < 0.1 * wanted.std()  # rounding
        assert_untouched(model, before)


def test_copies_are_made_only_where_they_serve(tiny: Any) -> None:
    model = tiny.model
    before = identities(model)
    with decoding_weights(model, "merged"):
        assert [item[:2] for item in identities(model)] == [item[:2] for item in before]
    half = copy.deepcopy(model).bfloat16()
    before = identities(half)
    with torch.autocast("cpu", dtype=torch.bfloat16), decoding_weights(half, "merged"):
        assert [item[:2] for item in identities(half)] == [item[:2] for item in before]


def test_four_bits_stay_apart(tiny: Any) -> None:
    model = adapted(tiny)
    layer = model.model.text_model.layers[0].self_attn.q_proj
    layer.base_layer.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    with decoding_weights(model, "merged"):
        assert model.model.text_model.layers[0].self_attn.q_proj is layer
        assert not hasattr(model.model.text_model.layers[0].self_attn.k_proj, "lora_A")
