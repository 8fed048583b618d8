"""Qwen2.5-Math-PRM's form, as on its card; and what is refused and read alike of every published one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mstar.errors import ConfigError
from mstar.rewards import RewardHost
from mstar.rewards.published import MathShepherd, QwenMathPRM
from mstar.rewards.published.qwen_math_prm import process_reward_class
from mstar.types import Prompt

from .conftest import (  # type: ignore[import-not-found]
    CHAINS,
    QUESTION,
    SIZE,
    answers,
    make_text_tokenizer,
    same,
)


@pytest.fixture(scope="module")
def qwen_math(checks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Qwen2Config

    folder = tmp_path_factory.mktemp("qwen-math-prm")
    tokenizer = make_text_tokenizer(checks, ["<extra_0>"])
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}"
    )
    torch.manual_seed(3)
    model = process_reward_class()(Qwen2Config(**SIZE, vocab_size=len(tokenizer)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_qwen_math_prm_is_read_as_on_its_card(qwen_math: Path) -> None:
    from transformers import AutoTokenizer

    reward = QwenMathPRM(str(qwen_math), batch_size=2)
    found = answers(reward, Prompt("p", QUESTION))
    model: Any = reward._loaded
    tokenizer: Any = AutoTokenizer.from_pretrained(qwen_math)
    expected = []
    for chain in CHAINS:
        messages = [
            {"role": "system", "content": "Please reason step by step, and put your final answer within \\boxed{}."},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "<extra_0>".join(chain) + "<extra_0>"},
        ]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        ids = tokenizer.encode(text, return_tensors="pt")
        logits = model.score(model.model(input_ids=ids).last_hidden_state)
        marked = ids == tokenizer.encode("<extra_0>")[0]
        probabilities = logits.softmax(-1) * marked.unsqueeze(-1)
        expected.append(probabilities[0][probabilities[0] != 0].view(-1, 2)[:, 1].tolist())
    same(found, expected)
    # One that holds the mark itself still has one score a step, and the same folder elsewhere the same facts.
    assert list(map(len, answers(reward, Prompt("p", QUESTION), [["a<extra_0>b", "c"]]))) == [2]
    facts = reward.facts()
    assert facts["dtype"] == "float32" and "model" not in facts  # noqa: PT018
    reward.release()
    with pytest.raises(RuntimeError, match="before load"):
        reward.score([])


def test_what_is_no_such_model_is_refused(qwen_math: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lacks the weights"):
        MathShepherd(str(qwen_math)).load(RewardHost())
    with pytest.raises(ConfigError, match="does not exist"):
        QwenMathPRM(str(tmp_path / "no")).check()
    with pytest.raises(ConfigError, match="which does not pin it"):
        QwenMathPRM("someone/prm", revision="main").load(RewardHost(trust_remote_code=True))


def test_own_code_of_a_tokenizer_is_never_left_open(qwen_math: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers would ask at the terminal whether to run it."""
    from transformers import AutoTokenizer

    given: list[Any] = []

    def from_pretrained(name: str, **settings: Any) -> Any:
        given.append(settings.get("trust_remote_code"))
        raise OSError("seen")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", from_pretrained)
    with pytest.raises(ConfigError):
        answers(QwenMathPRM(str(qwen_math)), Prompt("p", QUESTION))
    assert given == [False]


def test_paragraphs_and_blank_responses(qwen_math: Path) -> None:
    reward = QwenMathPRM(str(qwen_math), separator="paragraph")
    assert list(map(len, answers(reward, Prompt("p", "?"), [["a", "b", "", "c"], ["", " "]]))) == [2, 0]
