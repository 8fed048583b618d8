"""Published process reward models, as tiny twins with random weights: the adapters read what their authors read.

The authors' way is written out here: one response at a time, without padding, all logits of a plain forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mstar.errors import ConfigError
from mstar.rewards import Reward, RewardHost
from mstar.rewards.published import MathShepherd, QwenMathPRM
from mstar.rewards.published.qwen_math_prm import process_reward_class
from mstar.types import Prompt, Response

QUESTION = "How many dots has the red die?"
CHAINS = [["red = 4", "so it is even", "Answer: even"], ["Answer: 9 + 9 = 18, I think"], ["x", "Answer: no"]]
SIZE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.3,
}  # fmt: skip


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


@torch.no_grad()
def test_math_shepherd_is_read_as_on_its_card(checks: ModuleType, tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = make_text_tokenizer(checks, ["ки"])
    torch.manual_seed(4)
    untyped: Any = MistralForCausalLM
    untyped(MistralConfig(**SIZE, vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reward = MathShepherd(str(tmp_path), batch_size=3)
    found = answers(reward, Prompt("p", QUESTION))
    model: Any = reward._loaded
    candidates = reward._answers
    expected = []
    for chain in CHAINS:
        text = f"{QUESTION} " + "\n".join(f"Step {n}: {step} ки" for n, step in enumerate(chain, start=1))
        ids = torch.tensor([tokenizer.encode(text)])
        scores = model(ids).logits[:, :, candidates].softmax(dim=-1)[:, :, 0]
        expected.append(scores[ids == tokenizer.encode("ки")[-1]].tolist())
    same(found, expected)


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
