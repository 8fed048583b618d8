"""A tiny Qwen2.5-VL, beside the models of ``tests/conftest.py``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mstar.models.tiny import build_tiny_processor
from mstar.rendering import Renderer


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
