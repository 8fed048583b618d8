"""The text of end tokens is cut where a response ends with it, and nowhere else."""

from __future__ import annotations

import pytest

from mstar.end_tokens import END_TOKENS, without_end_tokens


@pytest.mark.parametrize("token", [*END_TOKENS, "[/INST]"])
def test_an_end_token_at_the_end_is_cut(token: str) -> None:
    for end in (token, f" {token}", f"\n{token}\n", f"{token}{token}", f"{token} <|im_end|>\n"):
        assert without_end_tokens(f"3 + 4 = 7\nAnswer: 7{end}", ["[/INST]"]) == "3 + 4 = 7\nAnswer: 7"
    assert without_end_tokens(token, ["[/INST]"]) == ""


@pytest.mark.parametrize(
    "text", ["", "Answer: 7", " Answer: 7 \n", "</s> is HTML", "a <|im_end|> b", "<s>7", "7[/INST]"]
)
def test_any_other_text_stays_as_it_is(text: str) -> None:
    assert without_end_tokens(text) == text
