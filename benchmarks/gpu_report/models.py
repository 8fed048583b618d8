"""Models with random weights and the real models' shapes, or tiny ones of the same families; and their processors.

The processors are the families' own, in the classes that need no torchvision and without the part for videos. The
tokenizer is ``bench_model``'s: about 8,000 words of one token each, so that texts have the length that is asked for. A
model's vocabulary is as large as its configuration says, so that head and logits cost what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from benchmarks.bench_model import build_tokenizer
from mstar.models.families import family_of
from mstar.rendering import Renderer

__all__ = ["FAMILIES", "Policy", "build_policy", "endless", "num_parameters", "real_config", "small_config"]

_SHAPES: Final = Path(__file__).parents[1] / "shapes"
FAMILIES: Final = ("qwen2_5_vl", "internvl", "smolvlm")
_TEXT: Final = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.2, "vocab_size": 8256, "tie_word_embeddings": False,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip
_VISION: Final = {"hidden_size": 64, "intermediate_size": 96, "initializer_range": 0.2}
_PICTURE: Final = {
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "internvl": "<IMG_CONTEXT>\n",
    "smolvlm": "<image>",
}
_END: Final = "<|im_end|>"


@dataclass(frozen=True)
class Policy:
    """A model and what makes its inputs."""

    model: Any
    renderer: Renderer


def real_config(shape: str) -> Any:
    """The configuration of a real model (``benchmarks/shapes``)."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(_SHAPES / shape)


def small_config(family: str) -> Any:
    """The configuration of a tiny model.

    Args:
        family: One of ``FAMILIES``.
    """
    import transformers

    untyped: Any = transformers
    if family == "qwen2_5_vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
        vision = {"depth": 2, "num_heads": 4, "patch_size": 8, "out_hidden_size": 64, "fullatt_block_indexes": [1]}
        return untyped.Qwen2_5_VLConfig(
            text_config={**_TEXT, "rope_parameters": rope},
            vision_config={**_VISION, **vision},
            tie_word_embeddings=False,
        )
    vision = {"num_hidden_layers": 1, "num_attention_heads": 4}
    if family == "internvl":
        return untyped.InternVLConfig(
            text_config={**_TEXT, "model_type": "qwen2"},
            vision_config={**_VISION, **vision, "image_size": [32, 32], "patch_size": [8, 8]},
            image_seq_length=4, downsample_ratio=0.5, tie_word_embeddings=False,
        )  # fmt: skip
    return untyped.SmolVLMConfig(
        text_config={**_TEXT, "model_type": "llama"},
        vision_config={**_VISION, **vision, "image_size": 32, "patch_size": 8},
        scale_factor=2, tie_word_embeddings=False, pad_token_id=0,
    )  # fmt: skip


def build_policy(config: Any, dtype: torch.dtype, device: str, seed: int = 0) -> Policy:
    """A model with random weights, made on the device itself, in evaluation mode.

    Args:
        config: Its configuration; the ids of special tokens in it become those of the benchmark's tokenizer.
        dtype: Type of the weights.
        device: Where it is.
        seed: Seed of the weights.
    """
    from transformers import AutoModelForImageTextToText, GenerationConfig

    processor = _processor(config)
    tokenizer = processor.tokenizer
    text = config.get_text_config()
    text.eos_token_id, text.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(seed)
    auto: Any = AutoModelForImageTextToText
    with torch.device(device):
        model = auto.from_config(config, dtype=dtype)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    renderer = family_of(model).renderer(processor, [tokenizer.eos_token_id])
    return Policy(model.eval(), renderer)


def endless(policy: Policy) -> Policy:
    """The same policy, whose responses end at their longest length alone, so that all rows run to the last step."""
    renderer = Renderer(policy.renderer.processor, policy.renderer.end_ids)
    renderer.banned_ids = (*renderer.banned_ids, *renderer.end_ids)
    return Policy(policy.model, renderer)


def num_parameters(model: nn.Module) -> int:
    """The number of a model's weights; those in 4 bits are two a byte."""
    return sum(value.numel() * (1 if value.is_floating_point() else 2) for value in model.parameters())


def _processor(config: Any) -> Any:
    """The family's processor, which may lack the part for videos."""
    family = "smolvlm" if config.model_type == "idefics3" else config.model_type
    template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + _PICTURE[family] + "{% else %}"
        "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return {"qwen2_5_vl": _qwen, "internvl": _internvl, "smolvlm": _smolvlm}[family](config, template)


def _qwen(config: Any, template: str) -> Any:
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = build_tokenizer(
        _END,
        {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "vision_bos_token": "<|vision_start|>",
         "vision_eos_token": "<|vision_end|>"},
        ["<|im_start|>"],
    )  # fmt: skip
    number = tokenizer.convert_tokens_to_ids
    config.image_token_id, config.video_token_id = number("<|image_pad|>"), number("<|video_pad|>")
    config.vision_start_token_id, config.vision_end_token_id = number("<|vision_start|>"), number("<|vision_end|>")
    vision = config.vision_config
    images = Qwen2VLImageProcessorPil(patch_size=vision.patch_size, merge_size=vision.spatial_merge_size)
    return _without_videos(Qwen2_5_VLProcessor)(images, tokenizer, _NoVideos(), chat_template=template)


def _internvl(config: Any, template: str) -> Any:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.internvl.processing_internvl import InternVLProcessor

    tokenizer = build_tokenizer(
        _END,
        {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
         "video_token": "<video>"},
        ["<|im_start|>"],
    )  # fmt: skip
    config.image_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    height, width = config.vision_config.image_size
    images = GotOcr2ImageProcessorPil(
        size={"height": height, "width": width}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return _without_videos(InternVLProcessor)(
        images, tokenizer, _NoVideos(), image_seq_length=config.image_seq_length, chat_template=template
    )


def _smolvlm(config: Any, template: str) -> Any:
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
    from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

    tokenizer = build_tokenizer(
        _END,
        {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
         "global_image_token": "<global-img>"},
        ["<|im_start|>", *(f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5))],
    )  # fmt: skip
    config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    edge = config.vision_config.image_size
    images = SmolVLMImageProcessorPil(size={"longest_edge": 2 * edge}, max_image_size={"longest_edge": edge})
    length = (edge // config.vision_config.patch_size // config.scale_factor) ** 2
    return _without_videos(SmolVLMProcessor)(
        images, tokenizer, _NoVideos(), image_seq_len=length, chat_template=template
    )


class _NoVideos(dict[str, Any]):
    """Stands where a processor wants a part for videos; saved, it is an empty description."""

    num_frames = 1
    fps = 1
    _auto_class = None


def _without_videos(processor: Any) -> Any:
    """The class without its part for videos, which transformers has with torchvision alone."""

    def check(self: Any, name: str, argument: Any) -> Any:
        if isinstance(argument, _NoVideos):
            return None
        return processor.check_argument_for_proper_class(self, name, argument)

    return type(processor.__name__, (processor,), {"check_argument_for_proper_class": check})
