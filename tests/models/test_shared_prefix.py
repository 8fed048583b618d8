"""Decoding from shared prompts: logits equal those of plain forward passes, as rows come and go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mstar.models.prefix import Prefix, encode_prefix, extend, logits_of, place_rows
from mstar.models.shared_prefix import SharedPrefixLayer, can_share, decoding, reserved, weigh
from mstar.prompts import TinyDice
from mstar.types import Prompt
from tests.family_checks import plain_forward

DICE = TinyDice("validation", 2)
PROMPTS = [
    DICE[0],
    Prompt("short", "Even?", DICE[1].images),
    Prompt("none", "How much more is green than purple, and why is it so?"),
]
# The prompt of every row: unequally many, and not in order.
OWNERS = [1, 0, 0, 2, 0, 1]


class Gemma:
    """A tiny Gemma 3: of three layers two forget what is four tokens back."""

    def __init__(self, renderer: Any) -> None:
        from transformers import Gemma3ForCausalLM, Gemma3TextConfig

        self.renderer = renderer
        torch.manual_seed(1)
        config = Gemma3TextConfig(
            vocab_size=len(renderer.tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=4, query_pre_attn_scalar=16,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"], initializer_range=0.3,
            attn_implementation="sdpa", max_position_embeddings=256,
        )  # fmt: skip
        self.model: Any = Gemma3ForCausalLM(config).eval()


@pytest.fixture(params=["tiny", "split", "llava", "qwen", "gemma"])
def policy(request: pytest.FixtureRequest) -> Any:
    if request.param == "gemma":
        return Gemma(request.getfixturevalue("tiny").renderer)
    return request.getfixturevalue(request.param)


def prompts_of(policy: Any) -> list[Prompt]:
    if isinstance(policy, Gemma):
        return [Prompt(prompt.id, prompt.question) for prompt in PROMPTS]
    return PROMPTS


@torch.inference_mode()
def test_logits_equal_plain_ones_while_rows_leave_and_become_more(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mstar.models.shared_prefix._ROOM", 2)  # the buffers grow, too
    prompts = prompts_of(policy)
    prefix = encode_prefix(policy.model, policy.renderer.prompt_inputs(prompts))
    assert can_share(policy.model, prefix.cache)
    prefix = prefix.spread(policy.model, torch.tensor(OWNERS))
    assert any(isinstance(layer, SharedPrefixLayer) for layer in prefix.cache.layers)
    # What each row has written, behind the number of its prompt.
    running = [[owner] for owner in OWNERS]
    sizes = []
    for step in range(6):
        for (owner, *ids), logits in zip(running, logits_of(policy.model, prefix.hidden_BH), strict=True):
            expected = plain_forward(policy.model, policy.renderer, prompts[owner], ids)[-1]
            torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
        counts = [(2, 0, 1, 2, 0)[(place + step) % 5] for place in range(len(running))]
        prefix, order = prefix.branch(counts)
        assert sorted(order) == [row for row, count in enumerate(counts) for _ in range(count)]
        tokens = [20 + 7 * place + 3 * step for place in range(len(order))]
        running = [[*running[row], token] for row, token in zip(order, tokens, strict=True)]
        sizes.append(len(running))
        ids_R1 = torch.tensor(tokens)[:, None]
        _, prefix = extend(policy.model, prefix, ids_R1, torch.ones_like(ids_R1))
    assert sizes == [7, 6, 6, 7, 7, 7]


@pytest.mark.parametrize("num_tokens", [1, 2, 7, 12, 13, 40])
@pytest.mark.parametrize("group", [1, 2])
def test_values_are_weighed_as_by_a_product(num_tokens: int, group: int) -> None:
    random = torch.Generator().manual_seed(num_tokens)
    weights = torch.randn(64, 4, group, num_tokens, generator=random).softmax(-1)
    values = torch.randn(64, 4, num_tokens, 32, generator=random)
    torch.testing.assert_close(weigh(weights, values), weights @ values, rtol=0, atol=1e-6)


def test_rows_that_stay_fill_the_first_places() -> None:
    assert place_rows([0, 1, 1, 0, 1, 1]) == ([4, 1, 2, 5], [0, 3], [4, 5])
    assert place_rows([1, 0, 0]) == ([0], [], [])
    assert place_rows([0, 1, 1]) == ([2, 1], [0], [2])
    assert place_rows([0, 3, 1]) == ([1, 1, 2, 1], [0, 3], [1, 1])
    assert place_rows([0, 0, 2]) == ([2, 2], [0, 1], [2, 2])


def spread(policy: Any) -> Prefix:
    return encode_prefix(policy.model, policy.renderer.prompt_inputs(PROMPTS)).spread(
        policy.model, torch.tensor(OWNERS)
    )


@torch.inference_mode()
def test_the_model_is_left_as_it_was(tiny: Any) -> None:
    prefix = spread(tiny)
    config = tiny.model.config.get_text_config()
    with decoding(tiny.model, prefix.cache):
        assert config._attn_implementation == "mstar_shared_prefix"
    assert config._attn_implementation == "sdpa"
    with pytest.raises(ZeroDivisionError), decoding(tiny.model, prefix.cache):
        raise ZeroDivisionError
    assert config._attn_implementation == "sdpa"


@torch.inference_mode()
def test_a_model_that_attends_in_its_own_way_is_found_out(tiny: Any) -> None:
    prefix = spread(tiny)
    states = torch.zeros(len(OWNERS), 4, 1, 32)
    with pytest.raises(RuntimeError, match="does not compute attention through"), decoding(tiny.model, prefix.cache):
        prefix.cache.update(states, states, 0)


@torch.inference_mode()
def test_models_that_cannot_share_hold_copies(tiny: Any) -> None:
    prefix = encode_prefix(tiny.model, tiny.renderer.prompt_inputs(PROMPTS))
    text = SimpleNamespace(_attn_implementation="sdpa", attn_logit_softcapping=None)
    model: Any = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda decoder: text))
    assert not can_share(model, prefix.cache)  # remote code
    model._supports_attention_backend = True
    assert can_share(model, prefix.cache)
    text.attn_logit_softcapping = 50.0
    assert not can_share(model, prefix.cache)
    copies = prefix.spread(model, torch.tensor(OWNERS))
    assert [layer.keys.shape[0] for layer in copies.cache.layers] == [6, 6, 6]
    shorter, order = copies.branch([0, 1, 1, 1, 1, 0])
    assert order == [4, 1, 2, 3]
    assert [layer.keys.shape[0] for layer in shorter.cache.layers] == [4, 4, 4]


@pytest.mark.parametrize("num_tokens", [1, 5, 128, 129, 130, 400])
@torch.inference_mode()
def test_the_room_that_new_tokens_take(tiny: Any, num_tokens: int) -> None:
    prefix = spread(tiny)
    layer: Any = prefix.cache.layers[0]
    states = torch.zeros(len(OWNERS), layer.prompt_keys.shape[1], 1, layer.prompt_keys.shape[3])
    for _ in range(num_tokens):
        layer.update(states, states)
    assert layer._buffers[0].shape[2] == reserved(num_tokens) >= num_tokens
