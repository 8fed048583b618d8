"""Vision-language models that get one step a turn and answer ``+`` or ``-`` after each.

All answers are read in one pass: what was answered before is ``+`` for every step, as the authors of these models have
it, so that a response's conversation begins with that of its first steps.

Shapes: B rows, T tokens, N the steps of all rows in order, H hidden.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from torch import Tensor, nn

from mstar.errors import ConfigError
from mstar.models.backbone import load_model, load_renderer
from mstar.models.families import family_of
from mstar.models.prefix import logits_of
from mstar.rendering import Renderer
from mstar.rewards.base import RewardHost
from mstar.rewards.published.base import Chain, PublishedReward, question_of
from mstar.types import Prompt, Turn

__all__ = ["OPEN_TURN", "JudgedTurns", "first_turn", "last_turns"]

# Where the answer is about to be written, in the chat templates of Qwen and InternVL.
OPEN_TURN: Final = "<|im_start|>assistant\n"
_CONTROL: Final = re.compile(r"<\|im_(?:start|end)\|>")


def first_turn(prompt: Prompt, step: str) -> str:
    """The first turn: the question and the first step, in the words of VisualPRM."""
    return f"### Question:\n{_plain(question_of(prompt))}\n\n### Solution Process:\n{_plain(step)}"


def last_turns(ids: Sequence[int], mark: Sequence[int], count: int) -> list[int]:
    """Where the last turns of a row are answered: the places of the last tokens of their marks.

    Args:
        ids: The row's tokens.
        mark: The tokens that open an answer's turn.
        count: How many turns.

    Raises:
        ConfigError: there are fewer.
    """
    size = len(mark)
    found = [end - 1 for end in range(size, len(ids) + 1) if list(ids[end - size : end]) == list(mark)]
    if len(found) < count:
        raise ConfigError(f"the chat template does not open an answer with {OPEN_TURN!r}: this is another model.")
    return found[len(found) - count :]


def _plain(text: str) -> str:
    """A text without what would end its turn."""
    return _CONTROL.sub("", text)


class JudgedTurns(PublishedReward):
    """A model that Transformers has, one step a turn, ``+`` or ``-`` after each.

    Attributes:
        system: The system turn.
    """

    system: ClassVar[str]
    _renderer: Renderer

    def _load(self, host: RewardHost, dtype: str) -> nn.Module:
        origin: dict[str, Any] = {"trust_remote_code": host.trust_remote_code, "revision": self.revision}
        model = load_model(self.model, dtype=dtype, attention=host.attention, **origin)
        self._renderer = load_renderer(self.model, model, **origin)
        tokenizer = self._renderer.tokenizer
        self._mark: list[int] = tokenizer(OPEN_TURN, add_special_tokens=False)["input_ids"]
        self._answers: list[int] = [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in "+-"]
        return model

    def _logits(self, model: nn.Module, chains: Sequence[Chain]) -> Tensor:
        inputs = self._renderer.prompt_inputs([self._conversation(*chain) for chain in chains]).to(self._device)
        places = [
            last_turns(row, self._mark, len(steps))
            for row, (_, steps) in zip(inputs.ids_BT.tolist(), chains, strict=True)
        ]
        row_N = [row for row, found in enumerate(places) for _ in found]
        place_N = [place for found in places for place in found]
        hidden_BTH = family_of(model).hidden_states(model, inputs.ids_BT, inputs.mask_BT, inputs.extras)
        return logits_of(model, hidden_BTH[row_N, place_N])[:, self._answers]

    def _conversation(self, prompt: Prompt, steps: Sequence[str]) -> Prompt:
        """The conversation up to the last step: earlier steps are turns that were answered."""
        asked = [first_turn(prompt, steps[0]), *map(_plain, steps[1:])]
        answered = [turn for text in asked[:-1] for turn in (Turn("user", text), Turn("assistant", "+"))]
        return replace(prompt, turns=(Turn("system", self.system), *answered), question=asked[-1])
