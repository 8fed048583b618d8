"""Counting tokens: as many as rendering makes, for a fraction of the work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mstar.models.token_counter import TokenCounter
from mstar.prompts import TinyDice
from mstar.types import Prompt

POOL = TinyDice("pool", 2)


def test_tokens_are_counted_rightly_and_pictures_encoded_once_a_size(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [(POOL[0], "red = 1"), (replace(POOL[1], question="Even?"), ""), (Prompt("text", "How many?"), "x y")]
    encoded = []
    count = type(tiny.renderer).count_tokens

    def counting(renderer: Any, prompt: Prompt) -> int:
        encoded.append(prompt.id)
        return int(count(renderer, prompt))

    monkeypatch.setattr(type(tiny.renderer), "count_tokens", counting)
    counted = TokenCounter(tiny.renderer)(pairs)
    assert encoded == [POOL[0].id, "text"]

    def expected() -> Iterator[int]:
        for prompt, response in pairs:
            inputs = tiny.renderer.response_inputs([prompt], [response]).inputs
            yield inputs.ids_BT.shape[1] - 1  # without the end token

    assert counted == list(expected())
