"""Vision-language models that get one step a turn and answer ``+`` or ``-`` after each.

All answers are read in one pass: what was answered before is ``+`` for every step, as the authors of these models have
it, so that a response's conversation begins with that of its first steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final

from torch import nn

from mstar.errors import ConfigError
from mstar.rewards.base import RewardHost
from mstar.rewards.published.base import Chain, question_of
from mstar.rewards.published.seeing import SeeingModel
from mstar.types import Prompt, Turn

# Where the answer is about to be written, in the chat templates of Qwen and InternVL.
OPEN_TURN: Final = "<|im_start|>assistant\n"


def last_turns(ids: Sequence[int], mark: Sequence[int], count: int) -> list[int]:
    """Where the last turns of a row are answered: the places of the last tokens of the marks that open them.

    Raises:
        ConfigError: there are fewer.
    """
    size = len(mark)
    found = [end - 1 for end in range(size, len(ids) + 1) if list(ids[end - size : end]) == list(mark)]
    if len(found) < count:
        raise ConfigError(f"the chat template does not open an answer with {OPEN_TURN!r}: this is another model.")
    return found[len(found) - count :]


class JudgedTurns(SeeingModel):
    """A model that Transformers has, one step a turn, ``+`` or ``-`` after each; ``system`` is its system turn."""

    answers: ClassVar[tuple[str, str]] = ("+", "-")
    system: str

    def question(self, prompt: Prompt) -> str:
        """The question as the first turn has it; without marks in it, pictures come before the turn's text."""
        return question_of(prompt)

    def _load(self, host: RewardHost, dtype: str) -> nn.Module:
        model = super()._load(host, dtype)
        self._mark: list[int] = self._renderer.tokenizer(OPEN_TURN, add_special_tokens=False)["input_ids"]
        return model

    def _places(self, ids: Sequence[int], count: int) -> list[int]:
        return last_turns(ids, self._mark, count)

    def _text(self, chain: Chain) -> str:
        """The conversation up to the last step: earlier steps are turns that were answered."""
        prompt, given = chain
        question = self.question(prompt)
        for mark in self.marks:
            question = question.replace(mark, "")
        steps = [self._plain(step) for step in given]
        # In the words of VisualPRM, which others took over.
        asked = [f"### Question:\n{question}\n\n### Solution Process:\n{steps[0]}", *steps[1:]]
        answered = [turn for text in asked[:-1] for turn in (Turn("user", text), Turn("assistant", "+"))]
        turns = (Turn("system", self.system), *answered)
        return self._renderer.render_prompt(replace(prompt, turns=turns, question=asked[-1]))
