"""The shared prefill: its logits equal those of a plain forward pass of every row alone.

Tokens would not do: wrong positions change the logits of padded rows long before they change a greedy token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mstar.generation import Request, Sample, TransformersEngine
from mstar.models.prefix import encode_prefix, extend, logits_of
from mstar.models.tiny import build_tiny_processor
from mstar.prompts import TinyDice
from mstar.rendering import Renderer
from mstar.types import Prompt

PICTURES = [prompt.images[0] for prompt in TinyDice("validation", 2)]
PROMPTS = [
    Prompt("one", "Even?", PICTURES[:1]),
    Prompt("none", "How much more is green than purple, and why is it so?"),
    Prompt("two", "What is red plus yellow?", tuple(PICTURES)),
]
OWNERS = [2, 0, 1, 0]
CONTINUATIONS = ["red = 4\n", "a much longer line than all the others = 12\n", "5", ""]
SECOND = ["Answer: 1", "x", "", "blue is 3\nAnswer: no"]


class QwenProcessor:
    """What Qwen2.5-VL's processor does for pictures, without the torchvision that its video part needs."""

    chat_template = "given"
    image_token = "<image>"  # noqa: S105 - the name of a token of the vocabulary

    def __init__(self) -> None:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        processor = build_tiny_processor()
        self.tokenizer = processor.tokenizer
        self.apply_chat_template = processor.apply_chat_template
        self.images = Qwen2VLImageProcessorPil(
            size={"shortest_edge": 256, "longest_edge": 2048}, patch_size=8, merge_size=2
        )

    def __call__(self, text: list[str], images: Any = None, **arguments: Any) -> dict[str, Tensor]:
        extras = {}
        if images is not None:
            # A wide picture in place of a square one, so that rows have different offsets.
            pictures = [image.resize((32 + 32 * number, 32)) for row in images for number, image in enumerate(row)]
            extras = dict(self.images(pictures, return_tensors="pt"))
            counts = iter((extras["image_grid_thw"].prod(1) // 4).tolist())
            mark = "<fake_token_around_image>"
            pieces = [row.split("<image>") for row in text]
            text = [
                row[0] + "".join(f"{mark}{'<image>' * next(counts)}{mark}{piece}" for piece in row[1:])
                for row in pieces
            ]
        batch = {**self.tokenizer(text, **arguments), **extras}
        batch.pop("token_type_ids", None)
        batch["mm_token_type_ids"] = (batch["input_ids"] == self.tokenizer.convert_tokens_to_ids("<image>")).int()
        return batch


class QwenPolicy:
    """A tiny Qwen2.5-VL: positions with three planes, computed from the picture's grid."""

    def __init__(self) -> None:
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

        processor = QwenProcessor()
        self.renderer = Renderer(processor)  # type: ignore[arg-type]
        size = {"hidden_size": 64, "intermediate_size": 96, "initializer_range": 0.2}
        config = Qwen2_5_VLConfig(
            text_config={
                **size, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "vocab_size": len(processor.tokenizer), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
            },
            vision_config={
                **size, "depth": 1, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2, "out_hidden_size": 64,
                "fullatt_block_indexes": [0],
            },
            image_token_id=2,
            video_token_id=0,
            tie_word_embeddings=False,
        )  # fmt: skip
        torch.manual_seed(4)
        self.model = Qwen2_5_VLForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def qwen() -> QwenPolicy:
    return QwenPolicy()


@pytest.fixture
def policy(name: str, request: pytest.FixtureRequest) -> Any:
    """The policy called ``name``; made here, outside the inference mode of the tests."""
    return request.getfixturevalue(name)


def plain_logits(policy: Any, prompt: Prompt, tail: Sequence[int]) -> Tensor:
    """The logits of one row by a plain forward pass without padding and without a cache."""
    inputs = policy.renderer.prompt_inputs([prompt])
    ids = torch.cat([inputs.ids_BT, torch.tensor([list(tail)], dtype=torch.long)], dim=1)
    extras = dict(inputs.extras)
    for name, value in extras.items():
        if name.endswith("token_type_ids"):
            extras[name] = torch.nn.functional.pad(value, (0, len(tail)))
    logits: Tensor = policy.model(
        input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **extras
    ).logits  # fmt: skip
    return logits[0].float()


def right_padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("name", ["tiny", "split", "llava", "qwen"])
@torch.inference_mode()
def test_logits_equal_a_plain_forward_of_each_row(policy: Any) -> None:
    model, renderer = policy.model, policy.renderer
    tokenizer = renderer.tokenizer
    first = [tokenizer(text)["input_ids"] for text in CONTINUATIONS]
    second = [tokenizer(text)["input_ids"] for text in SECOND]

    prefix = encode_prefix(model, renderer.prompt_inputs(PROMPTS))
    prompt_logits = logits_of(model, prefix.hidden_BH)
    prefix = prefix.select(torch.tensor(OWNERS))
    hidden_1, prefix = extend(model, prefix, *right_padded(first))
    hidden_2, prefix = extend(model, prefix, *right_padded(second))

    assert len({renderer.prompt_inputs([prompt]).ids_BT.shape[1] for prompt in PROMPTS}) == 3
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(prompt_logits[row], plain_logits(policy, prompt, [])[-1], atol=1e-4, rtol=0)
    for row, owner in enumerate(OWNERS):
        tail = first[row] + second[row]
        wanted = plain_logits(policy, PROMPTS[owner], tail)
        wanted = wanted[len(wanted) - len(tail) :]
        got = torch.cat([hidden_1[row, : len(first[row])], hidden_2[row, : len(second[row])]])
        torch.testing.assert_close(logits_of(model, got), wanted, atol=1e-4, rtol=0)
    # What is compared differs from row to row by far more than the tolerance.
    assert prompt_logits.std(0).mean() > 0.05


@torch.inference_mode()
def test_rows_can_leave_and_the_rest_goes_on(tiny: Any) -> None:
    renderer = tiny.renderer
    prefix = encode_prefix(tiny.model, renderer.prompt_inputs(PROMPTS))
    tokens = renderer.tokenizer("red = 4")["input_ids"]
    _, prefix = extend(tiny.model, prefix, torch.tensor([tokens] * 3), torch.ones(3, len(tokens), dtype=torch.long))
    prefix = prefix.select(torch.tensor([2, 0]))
    column = torch.tensor([[tokens[0]], [tokens[1]]])
    _, prefix = extend(tiny.model, prefix, column, torch.ones_like(column))
    got = logits_of(tiny.model, prefix.hidden_BH)
    for row, (owner, last) in enumerate([(2, tokens[0]), (0, tokens[1])]):
        torch.testing.assert_close(got[row], plain_logits(tiny, PROMPTS[owner], [*tokens, last])[-1], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_offsets_of_an_earlier_batch_of_pictures_are_forgotten(qwen: QwenPolicy) -> None:
    text = [PROMPTS[1], Prompt("other", "Why?")]
    encode_prefix(qwen.model, qwen.renderer.prompt_inputs([PROMPTS[2], PROMPTS[2], PROMPTS[0]]))
    prefix = encode_prefix(qwen.model, qwen.renderer.prompt_inputs(text))
    tokens = qwen.renderer.tokenizer("red = 4")["input_ids"]
    hidden, _ = extend(qwen.model, prefix, torch.tensor([tokens] * 2), torch.ones(2, len(tokens), dtype=torch.long))
    qwen.model.model.rope_deltas = None
    for row, prompt in enumerate(text):
        wanted = plain_logits(qwen, prompt, tokens)[-len(tokens) :]
        torch.testing.assert_close(logits_of(qwen.model, hidden[row]), wanted, atol=1e-4, rtol=0)


def test_the_engine_runs_on_a_model_with_three_position_planes(qwen: QwenPolicy) -> None:
    engine = TransformersEngine(max_new_tokens=8, progress=False)
    engine.start(qwen.model, qwen.renderer)
    greedy = Sample(0, 0.0, 0)
    together = engine.generate([Request(prompt, (greedy,)) for prompt in PROMPTS])
    for prompt, (response,) in zip(PROMPTS, together, strict=True):
        inputs = qwen.renderer.prompt_inputs([prompt])
        tokens = qwen.model.generate(
            input_ids=inputs.ids_BT,
            attention_mask=inputs.mask_BT,
            do_sample=False,
            max_new_tokens=8,
            suppress_tokens=list(qwen.renderer.banned_ids),
            **inputs.extras,
        )[0, inputs.ids_BT.shape[1] :]
        assert response.text == qwen.renderer.decode(tokens.tolist())
