"""Tiny models of the families that users have, with random weights, and their processors (most need torchvision)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from family_checks import make_tokenizer  # the fixture ``tiny_families`` puts it there

END = "<|im_end|>"


@dataclass(frozen=True)
class Size:
    """How large a tiny model is; heads of 32 or more are what vLLM has on a CPU."""

    hidden: int = 64
    intermediate: int = 96
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    vision_layers: int = 1
    tied: bool = False

    @property
    def width(self) -> dict[str, Any]:
        """What the language model and the vision tower have in common."""
        return {"hidden_size": self.hidden, "intermediate_size": self.intermediate, "initializer_range": 0.2}

    @property
    def text(self) -> dict[str, Any]:
        """The language model's size."""
        return {
            **self.width, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
        }  # fmt: skip

    @property
    def tower(self) -> dict[str, Any]:
        """The vision tower's size."""
        return {**self.width, "num_hidden_layers": self.vision_layers, "num_attention_heads": 4}

    def planes(self, side: float = 3 / 8) -> list[int]:
        """How many frequencies the planes of multimodal rotary positions have (time, height, width).

        Args:
            side: The share of height, and of width.
        """
        half = self.hidden // self.heads // 2
        return [half - 2 * int(side * half), int(side * half), int(side * half)]


def template(picture: str) -> str:
    """A chat template of the form that Qwen and InternVL have."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + picture + "{% else %}"
        "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def qwen(size: Size, version: str) -> tuple[Any, Any]:
    """A tiny Qwen2-VL, Qwen2.5-VL or Qwen3-VL."""
    import transformers

    untyped: Any = transformers
    tokenizer = make_tokenizer(
        END,
        {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "vision_bos_token": "<|vision_start|>",
         "vision_eos_token": "<|vision_end|>"},
        ["<|im_start|>"],
    )  # fmt: skip
    number = tokenizer.convert_tokens_to_ids
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    pixels = {"size": {"shortest_edge": 256, "longest_edge": 2048}, "patch_size": 8, "merge_size": 2}
    images = untyped.Qwen2VLImageProcessor(**pixels)
    if version == "3":
        videos: Any = untyped.Qwen3VLVideoProcessor(**pixels)
    else:
        videos = untyped.Qwen2VLVideoProcessor(**pixels)
    name = {"2": "Qwen2VL", "2.5": "Qwen2_5_VL", "3": "Qwen3VL"}[version]
    processor = getattr(untyped, f"{name}Processor")(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=template(picture)
    )
    vision: dict[str, Any] = {"depth": size.vision_layers, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2}
    if version == "2":
        vision |= {"embed_dim": size.hidden, "hidden_size": size.hidden, "mlp_ratio": 2, "initializer_range": 0.2}
    elif version == "2.5":
        vision |= {**size.width, "out_hidden_size": size.hidden, "fullatt_block_indexes": [0]}
    else:
        vision |= {
            **size.width,
            "out_hidden_size": size.hidden,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 64,
        }
    text: dict[str, Any] = {
        **size.text, "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id, "tie_word_embeddings": size.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": size.planes()},
    }  # fmt: skip
    if version == "3":
        text["head_dim"] = size.hidden // size.heads
        # As the released ones: the planes take turns, and time has most frequencies.
        text["rope_parameters"] |= {"mrope_interleaved": True, "mrope_section": size.planes(5 / 16)}
    config = getattr(untyped, f"{name}Config")(
        text_config=text, vision_config=vision, image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"), vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"), tie_word_embeddings=size.tied,
    )  # fmt: skip
    return getattr(untyped, f"{name}ForConditionalGeneration")(config), processor


def internvl(size: Size) -> tuple[Any, Any]:
    """A tiny InternVL 2.5/3."""
    import transformers

    untyped: Any = transformers
    tokenizer = make_tokenizer(
        END,
        {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
         "video_token": "<video>"},
        ["<|im_start|>"],
    )  # fmt: skip
    images = untyped.GotOcr2ImageProcessor(
        size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=2
    )
    processor = untyped.InternVLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=untyped.InternVLVideoProcessor(),
        image_seq_length=4, chat_template=template("<IMG_CONTEXT>\n"),
    )  # fmt: skip
    config = untyped.InternVLConfig(
        text_config={
            **size.text, "model_type": "qwen2", "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id, "tie_word_embeddings": size.tied,
        },
        vision_config={**size.tower, "image_size": [32, 32], "patch_size": [8, 8]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=4, downsample_ratio=0.5,
        tie_word_embeddings=size.tied,
    )  # fmt: skip
    return untyped.InternVLForConditionalGeneration(config), processor


def smolvlm(size: Size) -> tuple[Any, Any]:
    """A tiny SmolVLM, pictures cut into parts."""
    import transformers

    untyped: Any = transformers
    return _with_parts("SmolVLM", size, video_processor=untyped.SmolVLMVideoProcessor())


def idefics3(size: Size) -> tuple[Any, Any]:
    """A tiny Idefics3, pictures cut into parts."""
    return _with_parts("Idefics3", size)


def _with_parts(name: str, size: Size, **processors: Any) -> tuple[Any, Any]:
    import transformers

    parts = [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)]
    tokenizer = make_tokenizer(
        "<end_of_utterance>",
        {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
         "global_image_token": "<global-img>"},
        ["<|im_start|>", *parts],
    )  # fmt: skip
    images = getattr(transformers, f"{name}ImageProcessor")(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    processor = getattr(transformers, f"{name}Processor")(
        images, tokenizer, **processors, image_seq_len=4,
        chat_template=template("<image>").replace(END, "<end_of_utterance>"),
    )  # fmt: skip
    config = getattr(transformers, f"{name}Config")(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=2, tie_word_embeddings=size.tied,
        pad_token_id=0,
        vision_config={**size.tower, "image_size": 32, "patch_size": 8},
        text_config={
            **size.text, "model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
    )  # fmt: skip
    return getattr(transformers, f"{name}ForConditionalGeneration")(config), processor


def mistral3(size: Size) -> tuple[Any, Any]:
    """A tiny Mistral Small 3.1: Pixtral's vision tower, pictures of any shape."""
    import transformers

    untyped: Any = transformers
    tokenizer = make_tokenizer(END, {"image_token": "[IMG]"}, ["<|im_start|>", "[IMG_BREAK]", "[IMG_END]"])
    processor = untyped.PixtralProcessor(
        untyped.PixtralImageProcessor(size={"longest_edge": 64}, patch_size=8), tokenizer, patch_size=8,
        spatial_merge_size=2, chat_template=template("[IMG]"),
    )  # fmt: skip
    config = untyped.Mistral3Config(
        vision_config={
            **size.tower, "model_type": "pixtral", "image_size": 64, "patch_size": 8, "head_dim": size.hidden // 4,
        },
        text_config={
            **size.text, "model_type": "mistral", "sliding_window": None, "head_dim": size.hidden // size.heads,
            "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id, "tie_word_embeddings": size.tied,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"), spatial_merge_size=2,
        tie_word_embeddings=size.tied,
    )  # fmt: skip
    return untyped.Mistral3ForConditionalGeneration(config), processor


def llava(size: Size, *, parts: bool) -> tuple[Any, Any]:
    """A tiny LLaVA 1.5, or LLaVA-NeXT, which cuts pictures into parts."""
    import transformers

    untyped: Any = transformers
    name, language, grid = "Llava", "llama", {}
    if parts:
        name, language, grid = "LlavaNext", "mistral", {"image_grid_pinpoints": [[32, 64], [64, 32], [64, 64]]}
    tokenizer = make_tokenizer(END, {"image_token": "<image>"}, ["<|im_start|>"])
    images = getattr(untyped, "LlavaNextImageProcessor" if parts else "CLIPImageProcessor")
    processor = getattr(untyped, f"{name}Processor")(
        images(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, **grid), tokenizer, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=template("<image>\n"),
    )  # fmt: skip
    config = getattr(untyped, f"{name}Config")(
        vision_config={**size.tower, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 8},
        text_config={
            **size.text, "model_type": language, "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id, "tie_word_embeddings": size.tied, "sliding_window": None,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), tie_word_embeddings=size.tied, **grid,
    )  # fmt: skip
    return getattr(untyped, f"{name}ForConditionalGeneration")(config), processor


def llava_onevision(size: Size) -> tuple[Any, Any]:
    """A tiny LLaVA-OneVision."""
    import transformers

    untyped: Any = transformers
    tokenizer = make_tokenizer(END, {"image_token": "<image>", "video_token": "<video>"}, ["<|im_start|>"])
    images = untyped.LlavaOnevisionImageProcessor(
        size={"height": 32, "width": 32}, image_grid_pinpoints=[[32, 32], [32, 64]]
    )
    processor = untyped.LlavaOnevisionProcessor(
        images, tokenizer, untyped.LlavaOnevisionVideoProcessor(), num_image_tokens=16,
        vision_feature_select_strategy="full", chat_template=template("<image>\n"),
    )  # fmt: skip
    config = untyped.LlavaOnevisionConfig(
        vision_config={
            **size.tower, "model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8,
            "vision_use_head": False,
        },
        text_config={
            **size.text, "model_type": "qwen2", "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[32, 32], [32, 64]], vision_feature_layer=-1, tie_word_embeddings=size.tied,
    )  # fmt: skip
    return untyped.LlavaOnevisionForConditionalGeneration(config), processor


BUILDERS: dict[str, Callable[[Size], tuple[Any, Any]]] = {
    "qwen2_vl": lambda size: qwen(size, "2"),
    "qwen2_5_vl": lambda size: qwen(size, "2.5"),
    "qwen3_vl": lambda size: qwen(size, "3"),
    "internvl": internvl,
    "smolvlm": smolvlm,
    "idefics3": idefics3,
    "mistral3": mistral3,
    "llava": lambda size: llava(size, parts=False),
    "llava_next": lambda size: llava(size, parts=True),
    "llava_onevision": llava_onevision,
}


def build(name: str, size: Size, seed: int = 9) -> tuple[Any, Any]:
    """A family's model with random weights, and its processor."""
    import torch

    torch.manual_seed(seed)
    model, processor = BUILDERS[name](size)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = 0
    return model, processor
