"""Math-Shepherd's form, as on its card."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch

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
