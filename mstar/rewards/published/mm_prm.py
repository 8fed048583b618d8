"""MM-PRM (Du et al. 2025, arXiv 2505.13427).

Read as its authors do (github.com/ModalMinds/MM-PRM: ``internvl/model/internvl_chat/modeling_internvl_chat.py``,
``batch_prm``, and ``eval/prm``): an answer's turn holds picture, question and steps, behind a user's turn that is left
empty and open; ``<prm>`` ends every step, and the logits of ``Yes`` and ``No`` there are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from mstar.chat_template import place_pictures
from mstar.errors import ConfigError
from mstar.rewards.base import RewardHost
from mstar.rewards.published.base import Chain, question_of
from mstar.rewards.published.seeing import INTERNVL_SYSTEM, SeeingModel
from mstar.types import Turn

_MARK = "<prm>"


class MMPRM(SeeingModel):
    """MM-PRM: InternVL 2.5, ``<prm>`` behind every step, ``Yes`` or ``No`` there; pictures in 6 parts at most."""

    answers: ClassVar[tuple[str, str]] = ("Yes", "No")
    marks: ClassVar[tuple[str, ...]] = (*SeeingModel.marks, _MARK)
    most_parts: ClassVar[int | None] = 6

    def _load(self, host: RewardHost, dtype: str) -> nn.Module:
        model = super()._load(host, dtype)
        self._mark_id = self._token(_MARK)
        return model

    def _text(self, chain: Chain) -> str:
        prompt, steps = chain
        [message] = place_pictures([Turn("user", question_of(prompt))], prompt)
        picture = f"{self._renderer.processor.image_token}\n"
        first = next(place for place, part in enumerate(message["content"]) if part["type"] == "text")
        parts = [picture if part["type"] == "image" else self._plain(part["text"]) for part in message["content"]]
        parts.insert(first, "Question: ")
        process = "".join(self._plain(step) + _MARK for step in steps)
        return (
            f"<|im_start|>system\n{INTERNVL_SYSTEM}<|im_end|>\n<|im_start|>user\n"
            f"<|im_start|>assistant\n{''.join(parts)}\nProcess: {process}<|im_end|>\n"
        )

    def _places(self, ids: Sequence[int], count: int) -> list[int]:
        places = [place for place, token in enumerate(ids) if token == self._mark_id]
        if len(places) != count:
            raise ConfigError(f"'{self.model}' is not a model for MMPRM: its tokenizer does not keep '{_MARK}' whole.")
        return places
