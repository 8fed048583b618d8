"""VisualPRM-8B and VisualPRM-8B-v1.1 (Wang et al. 2025, arXiv 2503.10291).

Read as the code that is published with the weights does (``modeling_internvl_chat.py``: ``InternVLRewardModel``,
``generate_steps_with_soft_score``), with the instruction of their training data.
"""

from __future__ import annotations

from typing import Any, Literal

from mstar.rewards.published.base import INSTRUCTION, placed_question
from mstar.rewards.published.judged_turns import JudgedTurns
from mstar.rewards.published.seeing import INTERNVL_SYSTEM
from mstar.types import Prompt


class VisualPRM(JudgedTurns):
    """VisualPRM: InternVL, one step a turn, the probability of ``+`` after each.

    Args:
        model: Its Hugging Face folder or id, in Transformers' own form of InternVL. Its weights must be safetensors.
        system_turn: What its system turn is: the ``instruction`` of its training data, or that of ``internvl``, which
            the code of the first version falls back to where its configuration names none.
        settings: Those that all published models have.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self, model: str, *, system_turn: Literal["instruction", "internvl"] = "instruction", **settings: Any
    ) -> None:
        super().__init__(model, **settings)
        self.system_turn = system_turn
        self.system = INSTRUCTION if system_turn == "instruction" else INTERNVL_SYSTEM

    def question(self, prompt: Prompt) -> str:
        """The question, with the pictures right before it, where its own text does not place them."""
        return placed_question(prompt)
