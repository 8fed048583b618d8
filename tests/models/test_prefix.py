"""The shared prefill: its logits equal those of a plain forward pass of every row alone.

Tokens would not do: wrong positions change the logits of padded rows long before they change a greedy token.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mstar.generation import Request, Sample, TransformersEngine
from mstar.models.prefix import encode_prefix, extend, logits_of
from mstar.types import Prompt
from tests.family_checks import PROMPTS, check_shared_prefill, plain_forward, plain_generate


@pytest.fixture
def policy(name: str, request: pytest.FixtureRequest) -> Any:
    """The policy called ``name``; made here, outside the inference mode of the tests."""
    return request.getfixturevalue(name)


@pytest.mark.parametrize("name", ["tiny", "split", "llava", "qwen"])
def test_logits_equal_a_plain_forward_of_each_row(policy: Any) -> None:
    check_shared_prefill(policy.model, policy.renderer)


@torch.inference_mode()
def test_rows_can_leave_and_the_rest_goes_on(tiny: Any) -> None:
    renderer = tiny.renderer
    prefix = encode_prefix(tiny.model, renderer.prompt_inputs(PROMPTS))
    tokens = renderer.tokenizer("red = 4")["input_ids"]
    _, prefix = extend(tiny.model, prefix, torch.tensor([tokens] * 3), torch.ones(3, len(tokens), dtype=torch.long))
    prefix = prefix.select(torch.tensor([2, 0]))
    column = torch.tensor([[tokens[0]], [tokens[1]]])
    _, prefix = extend(tiny.model, prefix, column, torch.ones_like(column))
    got = logits_of(tiny.model, prefix.hidden_BH)
    for row, (owner, last) in enumerate([(2, tokens[0]), (0, tokens[1])]):
        wanted = plain_forward(tiny.model, tiny.renderer, PROMPTS[owner], [*tokens, last])
        torch.testing.assert_close(got[row], wanted[-1], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_offsets_of_an_earlier_batch_of_pictures_are_forgotten(qwen: Any) -> None:
    text = [PROMPTS[1], Prompt("other", "Why?")]
    encode_prefix(qwen.model, qwen.renderer.prompt_inputs([PROMPTS[2], PROMPTS[2], PROMPTS[0]]))
    prefix = encode_prefix(qwen.model, qwen.renderer.prompt_inputs(text))
    tokens = qwen.renderer.tokenizer("red = 4")["input_ids"]
    hidden, _ = extend(qwen.model, prefix, torch.tensor([tokens] * 2), torch.ones(2, len(tokens), dtype=torch.long))
    qwen.model.model.rope_deltas = None
    for row, prompt in enumerate(text):
        wanted = plain_forward(qwen.model, qwen.renderer, prompt, tokens)[-len(tokens) :]
        torch.testing.assert_close(logits_of(qwen.model, hidden[row]), wanted, atol=1e-4, rtol=0)


def test_the_engine_runs_on_a_model_with_three_position_planes(qwen: Any) -> None:
    engine = TransformersEngine(max_new_tokens=8, progress=False)
    engine.start(qwen.model, qwen.renderer)
    greedy = Sample(0, 0.0, 0)
    together = engine.generate([Request(prompt, (greedy,)) for prompt in PROMPTS])
    for prompt, (response,) in zip(PROMPTS, together, strict=True):
        assert response.text == qwen.renderer.decode(plain_generate(qwen.model, qwen.renderer, prompt, 8))
