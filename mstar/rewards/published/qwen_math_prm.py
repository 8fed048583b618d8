"""Qwen2.5-Math-PRM-7B and -72B, Qwen2.5-Math-7B-PRM800K (Zhang et al. 2025, arXiv 2501.07301).

Read as their model cards do (huggingface.co/Qwen/Qwen2.5-Math-PRM-7B): ``<extra_0>`` behind every step, and the second
of two classes there. The head (two linear layers with a ReLU between) is that of vLLM's ``qwen2_rm.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from torch import Tensor, nn

from mstar.rewards.published.base import Chain, question_of
from mstar.rewards.published.marked_text import MarkedText

if TYPE_CHECKING:
    from transformers import Qwen2Config

_SYSTEM: Final = "Please reason step by step, and put your final answer within \\boxed{}."


def process_reward_class() -> Any:
    """The architecture ``Qwen2ForProcessRewardModel``, which Transformers does not have: Qwen2 with a head of two."""
    from transformers import Qwen2Model, Qwen2PreTrainedModel

    class Qwen2ForProcessRewardModel(Qwen2PreTrainedModel):
        def __init__(self, config: Qwen2Config) -> None:
            super().__init__(config)
            self.model = Qwen2Model(config)
            size = config.hidden_size
            self.score = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 2))
            self.post_init()  # type: ignore[no-untyped-call]

    return Qwen2ForProcessRewardModel


class QwenMathPRM(MarkedText):
    """Qwen2.5-Math-PRM: text alone, ``<extra_0>`` behind every step. The Python code in its folder is not needed."""

    mark: ClassVar[str] = "<extra_0>"

    def _model_class(self) -> Any:
        return process_reward_class()

    def _render(self, chain: Chain) -> tuple[str, list[str], str]:
        prompt, given = chain
        steps = [step + self.mark for step in given]
        messages = [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": question_of(prompt)},
            {"role": "assistant", "content": "".join(steps)},
        ]
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        head, _, tail = text.rpartition("".join(steps))
        return head, steps, tail

    def _head(self, model: nn.Module, hidden_NH: Tensor) -> Tensor:
        untyped: Any = model
        logits_N2: Tensor = untyped.score(hidden_NH)
        return logits_N2.flip(-1)  # the second class is "right"
