"""Math-Shepherd's PRM (Wang et al. 2024, arXiv 2312.08935), and models of its form.

Read as its model card does (huggingface.co/peiyi9979/math-shepherd-mistral-7b-prm): ``ки`` behind every step, and the
logits of ``+`` and ``-`` there.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from mstar.errors import ConfigError
from mstar.rewards.base import RewardHost
from mstar.rewards.published.base import Chain, question_of
from mstar.rewards.published.marked_text import MarkedText


class MathShepherd(MarkedText):
    """Math-Shepherd's form: a causal language model of text, ``ки`` behind every step, ``+`` and ``-`` as answers.

    Its training data numbers the steps (``Step 1: ...``); a step that does not begin so is numbered here.
    """

    mark: ClassVar[str] = "ки"

    def _model_class(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def _load(self, host: RewardHost, dtype: str) -> nn.Module:
        model = super()._load(host, dtype)
        # As the card has it: each with the space before it.
        self._answers: list[int] = self._tokenizer("+ -", add_special_tokens=False)["input_ids"]
        if len(self._answers) != 2:
            raise ConfigError(f"'{self.model}' is not a model for MathShepherd: '+' and '-' are no tokens there.")
        return model

    def _render(self, chain: Chain) -> tuple[str, list[str], str]:
        prompt, given = chain
        numbered = [s if s.startswith("Step ") else f"Step {n}: {s}" for n, s in enumerate(given, start=1)]
        steps = [f"{'' if number == 0 else chr(10)}{step} {self.mark}" for number, step in enumerate(numbered)]
        return f"{question_of(prompt)} ", steps, ""

    def _head(self, model: nn.Module, hidden_NH: Tensor) -> Tensor:
        untyped: Any = model
        logits_NV: Tensor = untyped.get_output_embeddings()(hidden_NH)
        return logits_NV[:, self._answers]
