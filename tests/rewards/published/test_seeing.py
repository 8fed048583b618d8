"""Published reward models that see pictures, as tiny twins: the adapters read what their authors read, logit for logit.

The authors' way is written out here: one response (and one turn) at a time, without padding, all logits of a plain
forward pass; for InternVL the text is their own conversation's, and its pictures' tokens are put in as their code does.
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

from mstar.errors import ConfigError
from mstar.prompts import TinyDice
from mstar.rewards import Reward, RewardHost
from mstar.rewards.published import MMPRM, QwenVLPRM, VisualPRM
from mstar.types import Prompt, Response

QUESTION = "How many dots has the red die?"
CHAINS = [["red = 4", "so it is even", "Answer: even"], ["Answer: 9 + 9 = 18, I think"], ["x", "Answer: no"]]
CHINESE = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"  # noqa: RUF001
# Of these families the processors need torchvision, which only the environment of vLLM has.
FAMILIES = ["idefics3", *(pytest.param(name, marks=pytest.mark.vllm) for name in ("qwen2_5_vl", "internvl"))]


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


def scored(reward: Reward, prompt: Prompt) -> list[tuple[float, ...]]:
    """The scores of the responses, one step a line."""
    reward.load(RewardHost())
    responses = [Response(prompt.id, n, "\n".join(c), 0, True, 1.0, 0.0) for n, c in enumerate(CHAINS)]
    [scores] = reward.score([(prompt, responses)])
    return scores


def same(found: list[tuple[float, ...]], expected: list[list[float]]) -> None:
    assert [list(row) for row in found] == [pytest.approx(row, abs=1e-5) for row in expected]
    # The steps differ, so that a mistaken place would be seen.
    assert len({round(score, 4) for row in expected for score in row}) == sum(map(len, expected))


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


@pytest.mark.parametrize("family", FAMILIES)
def test_qwen_vl_prm_is_asked_turn_by_turn(tiny_families: ModuleType, tmp_path: Path, family: str) -> None:
    twin = make_twin(tiny_families, family, tmp_path)
    reward = QwenVLPRM(twin.folder, batch_size=2)
    gap = "\n" if family == "internvl" else ""
    first = f"<image>{gap}### Question:\n{QUESTION}\n\n### Solution Process:\n"
    same(scored(reward, dice()), turn_by_turn(twin, reward.system, first, end_of(family)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("system_turn", ["instruction", "internvl"])
def test_visual_prm_is_asked_turn_by_turn(
    tiny_families: ModuleType, tmp_path: Path, family: str, system_turn: Any
) -> None:
    twin = make_twin(tiny_families, family, tmp_path)
    reward = VisualPRM(twin.folder, batch_size=2, system_turn=system_turn)
    assert reward.system.startswith(CHINESE if system_turn == "internvl" else "You are an advanced AI assistant, ")
    gap = "\n" if family == "internvl" else ""
    first = f"### Question:\n<image>{gap}{QUESTION}\n\n### Solution Process:\n"
    same(scored(reward, dice()), turn_by_turn(twin, reward.system, first, end_of(family)))
    # Steps that are given may have several lines; what ends a turn or stands for a picture does neither in one.
    [[given, plain]] = reward.score_steps([(dice(), [["a\nb<|im_<image>end|>", "c<image>"], ["a\nb", "c"]])])
    assert given == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_mm_prm_answers_at_its_marks(tiny_families: ModuleType, tmp_path: Path, family: str) -> None:
    twin = make_twin(tiny_families, family, tmp_path, ["<prm>", "Yes", "No"])
    reward = MMPRM(twin.folder, batch_size=2)
    found = scored(reward, dice())
    expected = []
    for chain in CHAINS:
        solution = "<prm>".join(chain) + "<prm>"
        text = f"<|im_start|>system\n{CHINESE}<|im_end|>\n<|im_start|>user\n<|im_start|>assistant\n"
        picture = "<image>\n" if family != "qwen2_5_vl" else "<|image_pad|>\n"
        text += f"{picture}Question: {QUESTION}\nProcess: {solution}<|im_end|>\n"
        ids, logits_TV = twin.logits(text, dice().images[0].load())
        marked = ids == twin.processor.tokenizer.convert_tokens_to_ids("<prm>")
        expected.append([twin.share(logits_V, "Yes", "No") for logits_V in logits_TV[marked]])
    same(found, expected)
    # A step that holds the mark still has one score; a question of text alone has no picture.
    [[given, plain]] = reward.score_steps([(Prompt("q", "1 + 1?"), [["a<prm>b", "c"], ["ab", "c"]])])
    assert given == pytest.approx(plain, abs=1e-5)


@pytest.mark.vllm
def test_mm_prm_cuts_pictures_into_six_parts(tiny_families: ModuleType, tmp_path: Path) -> None:
    twin = make_twin(tiny_families, "internvl", tmp_path, ["<prm>", "Yes", "No"])
    twin.processor.image_processor.max_patches = 12
    twin.processor.save_pretrained(tmp_path)
    reward = MMPRM(twin.folder)
    reward.load(RewardHost())
    assert reward._renderer.processor.image_processor.max_patches == 6


def test_what_is_no_such_model_is_refused(tiny_families: ModuleType, tmp_path: Path) -> None:
    twin = make_twin(tiny_families, "idefics3", tmp_path)
    with pytest.raises(ConfigError, match="is not a model for MMPRM: its tokenizer has no token 'Yes'"):
        MMPRM(twin.folder).load(RewardHost())
    published = tmp_path / "published"
    published.mkdir()
    (published / "config.json").write_text('{"model_type": "internvl_chat", "auto_map": {"AutoConfig": "c.C"}}')
    with pytest.raises(ConfigError, match="is in InternVL's first form"):
        VisualPRM(str(published)).load(RewardHost())


def test_a_tokenizer_that_begins_every_text_with_a_token_does_so_here(
    tiny_families: ModuleType, tmp_path: Path
) -> None:
    from tokenizers.processors import TemplateProcessing

    twin = make_twin(tiny_families, "idefics3", tmp_path, ["<prm>", "Yes", "No", "<s>"])
    tokens = twin.processor.tokenizer
    tokens.bos_token = "<s>"  # noqa: S105 - a token of another kind
    begin = [("<s>", tokens.convert_tokens_to_ids("<s>"))]
    tokens.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=begin)
    twin.processor.save_pretrained(tmp_path)
    reward = MMPRM(twin.folder)
    reward.load(RewardHost())
    text = "<s>" + reward._text((dice(), ("a", "b")))
    assert text.startswith("<s><|im_start|>system\n")
    [[found]] = reward.score_steps([(dice(), [["a", "b"]])])
    ids, logits_TV = twin.logits(text, dice().images[0].load())
    marked = ids == tokens.convert_tokens_to_ids("<prm>")
    assert found == pytest.approx([twin.share(logits_V, "Yes", "No") for logits_V in logits_TV[marked]], abs=1e-5)
