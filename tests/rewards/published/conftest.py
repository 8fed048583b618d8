"""Published reward models, as tiny twins with random weights: the adapters read what their authors read.

The authors' way is written out in each test: one response (and one turn) at a time, without padding, all logits of a
plain forward pass; for InternVL the text is their own conversation's, and its pictures' tokens are put in as their code
does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from mstar.prompts import TinyDice
from mstar.rewards import Reward, RewardHost
from mstar.types import Prompt, Response

QUESTION = "How many dots has the red die?"
CHAINS = [["red = 4", "so it is even", "Answer: even"], ["Answer: 9 + 9 = 18, I think"], ["x", "Answer: no"]]
SIZE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.3,
}  # fmt: skip
CHINESE = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"  # noqa: RUF001
# Of these families the processors need torchvision, which only the environment of vLLM has.
FAMILIES = ["idefics3", *(pytest.param(name, marks=pytest.mark.vllm) for name in ("qwen2_5_vl", "internvl"))]


def answers(reward: Reward, prompt: Prompt, chains: Sequence[Sequence[str]] = CHAINS) -> list[tuple[float, ...]]:
    """The scores of responses, one step a line."""
    reward.load(RewardHost())
    responses = [Response(prompt.id, n, "\n".join(c), 0, True, 1.0, 0.0) for n, c in enumerate(chains)]
    [scores] = reward.score([(prompt, responses)])
    return scores


def same(found: list[tuple[float, ...]], expected: list[list[float]]) -> None:
    assert [list(row) for row in found] == [pytest.approx(row, abs=1e-5) for row in expected]
    # The steps differ, so that a mistaken place would be seen.
    assert len({round(score, 4) for row in expected for score in row}) == sum(map(len, expected))


def make_text_tokenizer(checks: ModuleType, marks: Sequence[str]) -> Any:
    tokenizer = checks.make_tokenizer("<|im_end|>", {}, ["<|im_start|>"])
    tokenizer.add_tokens(list(marks))
    return tokenizer


@dataclass(frozen=True)
class Twin:
    """A tiny model with its processor, and where both are saved."""

    model: Any
    processor: Any
    folder: str

    def logits(self, text: str, picture: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and logits (T, V) of a text with ``<image>`` where the picture stands."""
        tokens = self.processor.tokenizer
        if self.model.config.model_type != "internvl":
            text = text.replace("<image>", self.placeholder)
            inputs = self.processor(text=[text], images=[[picture]], return_tensors="pt", add_special_tokens=False)
        else:
            pixels = self.processor.image_processor([picture], crop_to_patches=True, return_tensors="pt").pixel_values
            places = "<IMG_CONTEXT>" * self.processor.image_seq_length * len(pixels)
            query = text.replace("<image>", f"<img>{places}</img>", 1)
            inputs = dict(tokens(query, return_tensors="pt")) | {"pixel_values": pixels}
        with torch.no_grad():
            return inputs["input_ids"][0], self.model(**inputs).logits[0]

    @property
    def placeholder(self) -> str:
        """What the family's chat template writes for a picture."""
        family = {"qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>"}
        return family.get(self.model.config.model_type, str(self.processor.image_token))

    def share(self, logits_V: torch.Tensor, right: str, wrong: str) -> float:
        """The probability of one of two tokens."""
        pair = self.processor.tokenizer.convert_tokens_to_ids([right, wrong])
        return float(logits_V[pair].softmax(-1)[0])


def make_twin(tiny_families: ModuleType, family: str, folder: Path, tokens: Sequence[str] = ()) -> Twin:
    model, processor = tiny_families.build(family, tiny_families.Size())
    processor.tokenizer.add_tokens(list(tokens))
    if tokens:
        model.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Twin(model.eval(), processor, str(folder))


def dice() -> Prompt:
    [picture] = TinyDice("validation", 1)[0].images
    return Prompt("p", QUESTION, (picture,))


def turn_by_turn(twin: Twin, system: str, first: str, end: str) -> list[list[float]]:
    """What the authors of VisualPRM and of Qwen-VL-PRM get, step by step.

    Args:
        twin: The model.
        system: Its system turn.
        first: What stands before the first step.
        end: What ends a turn.
    """
    [picture] = dice().images
    expected = []
    for chain in CHAINS:
        scores, text = [], f"<|im_start|>system\n{system}{end}\n"
        for number, step in enumerate(chain):
            text += f"<|im_start|>user\n{first if number == 0 else ''}{step}{end}\n<|im_start|>assistant\n"
            _, logits_TV = twin.logits(text, picture.load())
            scores.append(twin.share(logits_TV[-1], "+", "-"))
            text += f"+{end}\n"
        expected.append(scores)
    return expected


def end_of(family: str) -> str:
    return "<end_of_utterance>" if family == "idefics3" else "<|im_end|>"
