"""Math-Shepherd's form, as on its card."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mstar.rewards import RewardHost
from mstar.rewards.published import MathShepherd
from mstar.types import Prompt

from .conftest import (  # type: ignore[import-not-found]
    CHAINS,
    QUESTION,
    SIZE,
    answers,
    make_text_tokenizer,
    same,
)


@torch.no_grad()
def test_math_shepherd_is_read_as_on_its_card(checks: ModuleType, tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = make_text_tokenizer(checks, ["ки"])
    torch.manual_seed(4)
    untyped: Any = MistralForCausalLM
    untyped(MistralConfig(**SIZE, vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reward = MathShepherd(str(tmp_path), batch_size=3)
    found = answers(reward, Prompt("p", QUESTION))
    model: Any = reward._loaded
    candidates = reward._answers
    expected = []
    for chain in CHAINS:
        text = f"{QUESTION} " + "\n".join(f"Step {n}: {step} ки" for n, step in enumerate(chain, start=1))
        ids = torch.tensor([tokenizer.encode(text)])
        scores = model(ids).logits[:, :, candidates].softmax(dim=-1)[:, :, 0]
        expected.append(scores[ids == tokenizer.encode("ки")[-1]].tolist())
    same(found, expected)


def test_responses_beyond_the_positions_are_told_once(
    checks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("mstar"), "propagate", True)
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = make_text_tokenizer(checks, ["ки"])
    untyped: Any = MistralForCausalLM
    config = MistralConfig(**SIZE, vocab_size=len(tokenizer), max_position_embeddings=100)
    untyped(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reward = MathShepherd(str(tmp_path), batch_size=1)
    reward.load(RewardHost())
    prompt = Prompt("p", QUESTION)
    reward.score_steps([(prompt, [["a"]])])
    assert caplog.messages == []
    for _ in range(2):
        reward.score_steps([(prompt, [["a"], ["b"] * 100, ["c"] * 100])])
    [said] = caplog.messages
    assert said.startswith("MathShepherd: 2 responses have, with their prompts, more tokens than")
    assert "(100)" in said
