"""How long rows are, counted cheaply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from mstar.rendering import Renderer
from mstar.types import Prompt

# Pictures whose sides round to the same multiple of this many pixels count as one size.
_GRAIN: Final = 32


class TokenCounter:
    """How many tokens a row has, counted without encoding its pictures where pictures of that size were seen before."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self._pictures: dict[tuple[tuple[int, int], ...], int] = {}

    def __call__(self, pairs: Sequence[tuple[Prompt, str]]) -> list[int]:
        """The tokens of every row, up to the rounding of picture sizes."""
        questions = self._text(["".join([*(t.text for t in p.turns), p.question]) for p, _ in pairs])
        responses = self._text([response for _, response in pairs])
        return [
            question + response + self._rest(prompt, question)
            for (prompt, _), question, response in zip(pairs, questions, responses, strict=True)
        ]

    def _text(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self.renderer.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def _rest(self, prompt: Prompt, question: int) -> int:
        sizes = [image.load().size for image in prompt.images]
        key = tuple((math.ceil(width / _GRAIN), math.ceil(height / _GRAIN)) for width, height in sizes)
        if key not in self._pictures:
            self._pictures[key] = self.renderer.count_tokens(prompt) - question
        return self._pictures[key]
