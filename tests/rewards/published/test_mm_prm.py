"""MM-PRM's form, read at its marks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from mstar.rewards import RewardHost
from mstar.rewards.published import MMPRM
from mstar.types import Prompt

from .conftest import (  # type: ignore[import-not-found]
    CHAINS,
    CHINESE,
    FAMILIES,
    QUESTION,
    answers,
    dice,
    make_twin,
    same,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_mm_prm_answers_at_its_marks(tiny_families: ModuleType, tmp_path: Path, family: str) -> None:
    twin = make_twin(tiny_families, family, tmp_path, ["<prm>", "Yes", "No"])
    reward = MMPRM(twin.folder, batch_size=2)
    found = answers(reward, dice())
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
