"""The text of end tokens: what other programs leave at the end of a response when they write it down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# Those of public model families; data that one model wrote is used to train another.
END_TOKENS: Final = (
    "</s>",
    "<eos>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_sentence|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|im_end|>",
    "<|return|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)


def without_end_tokens(text: str, own: Sequence[str] = ()) -> str:
    """The text without the end tokens, its model's ``own`` too, and the white space around them, that it ends with."""
    known = (*END_TOKENS, *filter(None, own))
    cut = text.rstrip()
    if not cut.endswith(known):
        return text
    while (token := next((token for token in known if cut.endswith(token)), None)) is not None:
        cut = cut.removesuffix(token).rstrip()
    return cut
