"""VisualPRM-8B and VisualPRM-8B-v1.1 (Wang et al. 2025, arXiv 2503.10291).

Read as the code that is published with the weights does (``modeling_internvl_chat.py``: ``InternVLRewardModel``,
``generate_steps_with_soft_score``), with the instruction of their training data.
"""

from __future__ import annotations

from typing import Final, Literal

from mstar.rewards.published.base import INSTRUCTION, placed_question
from mstar.rewards.published.judged_turns import JudgedTurns
from mstar.rewards.published.seeing import INTERNVL_SYSTEM
from mstar.types import Prompt

_SYSTEMS: Final = {"instruction": INSTRUCTION, "internvl": INTERNVL_SYSTEM}


class VisualPRM(JudgedTurns):
    """VisualPRM: InternVL, one step a turn, the probability of ``+`` after each.

    Args:
        model: Its Hugging Face folder or id, in Transformers' own form of InternVL. Its weights must be safetensors.
        revision: Commit, tag or branch of an id; with trust_remote_code it must be a commit.
        batch_size: Responses that are scored at the same time; halved where the memory is not enough.
        separator: What ends a step: ``line`` (as everywhere in a run), or ``paragraph`` (a blank line, as in its data).
        dtype: Type of its weights: float32, bfloat16, float16, or auto (16 bits on CUDA, else the policy's).
        offload: Whether it is on the device only while it scores; by default, it is where the device is a GPU.
        system_turn: What its system turn is: the ``instruction`` of its training data, or that of ``internvl``, which
            the code of the first version falls back to where its configuration names none.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        batch_size: int = 8,
        separator: Literal["line", "paragraph"] = "line",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        offload: bool | None = None,
        system_turn: Literal["instruction", "internvl"] = "instruction",
    ) -> None:
        super().__init__(model, revision, batch_size, separator, dtype, offload)
        self.system_turn = system_turn

    @property
    def system(self) -> str:
        """The system turn."""
        return _SYSTEMS[self.system_turn]

    def question(self, prompt: Prompt) -> str:
        """The question, with the pictures right before it, where its own text does not place them."""
        return placed_question(prompt)
