"""The families whose processors need torchvision, which only the environment of vLLM has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.models.backbone import load_model, load_renderer, save_model
from mstar.rendering import Renderer

pytestmark = pytest.mark.vllm

SIZE = {"hidden_size": 64, "intermediate_size": 96, "initializer_range": 0.2}
TEXT = {**SIZE, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
END = "<|im_end|>"


def template(picture: str) -> str:
    """A chat template of the form that Qwen and InternVL have."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + picture + "{% else %}"
        "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def qwen(checks: Any, version: str) -> tuple[Any, Any]:
    """A tiny Qwen2-VL, Qwen2.5-VL or Qwen3-VL."""
    import transformers

    untyped: Any = transformers
    tokenizer = checks.make_tokenizer(
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
    vision: dict[str, Any] = {"depth": 1, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2}
    if version == "2":
        vision |= {"embed_dim": 64, "hidden_size": 64, "mlp_ratio": 2, "initializer_range": 0.2}
    elif version == "2.5":
        vision |= {**SIZE, "out_hidden_size": 64, "fullatt_block_indexes": [0]}
    else:
        vision |= {**SIZE, "out_hidden_size": 64, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    text: dict[str, Any] = {
        **TEXT, "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    }  # fmt: skip
    if version == "3":
        text["head_dim"] = 16
    config = getattr(untyped, f"{name}Config")(
        text_config=text, vision_config=vision, image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"), vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"), tie_word_embeddings=False,
    )  # fmt: skip
    return getattr(untyped, f"{name}ForConditionalGeneration")(config), processor


def internvl(checks: Any) -> tuple[Any, Any]:
    """A tiny InternVL 2.5/3."""
    import transformers

    untyped: Any = transformers
    tokenizer = checks.make_tokenizer(
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
            **TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id, "tie_word_embeddings": False,
        },
        vision_config={
            **SIZE, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": [32, 32], "patch_size": [8, 8],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=4, downsample_ratio=0.5,
        tie_word_embeddings=False,
    )  # fmt: skip
    return untyped.InternVLForConditionalGeneration(config), processor


def smolvlm(checks: Any) -> tuple[Any, Any]:
    """A tiny SmolVLM, pictures cut into parts."""
    import transformers

    untyped: Any = transformers
    parts = [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)]
    tokenizer = checks.make_tokenizer(
        "<end_of_utterance>",
        {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>",
         "global_image_token": "<global-img>"},
        ["<|im_start|>", *parts],
    )  # fmt: skip
    images = untyped.SmolVLMImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = untyped.SmolVLMProcessor(
        images, tokenizer, untyped.SmolVLMVideoProcessor(), image_seq_len=4,
        chat_template=template("<image>").replace(END, "<end_of_utterance>"),
    )  # fmt: skip
    config = untyped.SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=2, tie_word_embeddings=False,
        pad_token_id=0,
        vision_config={
            **SIZE, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
        },
        text_config={
            **TEXT, "model_type": "llama", "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
    )  # fmt: skip
    return untyped.SmolVLMForConditionalGeneration(config), processor


def llava_onevision(checks: Any) -> tuple[Any, Any]:
    """A tiny LLaVA-OneVision."""
    import transformers

    untyped: Any = transformers
    tokenizer = checks.make_tokenizer(END, {"image_token": "<image>", "video_token": "<video>"}, ["<|im_start|>"])
    images = untyped.LlavaOnevisionImageProcessor(
        size={"height": 32, "width": 32}, image_grid_pinpoints=[[32, 32], [32, 64]]
    )
    processor = untyped.LlavaOnevisionProcessor(
        images, tokenizer, untyped.LlavaOnevisionVideoProcessor(), num_image_tokens=16,
        vision_feature_select_strategy="full", chat_template=template("<image>\n"),
    )  # fmt: skip
    config = untyped.LlavaOnevisionConfig(
        vision_config={
            **SIZE, "model_type": "siglip_vision_model", "num_hidden_layers": 1, "num_attention_heads": 4,
            "image_size": 32, "patch_size": 8, "vision_use_head": False,
        },
        text_config={
            **TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[32, 32], [32, 64]], vision_feature_layer=-1, tie_word_embeddings=False,
    )  # fmt: skip
    return untyped.LlavaOnevisionForConditionalGeneration(config), processor


BUILDERS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "qwen2_vl": lambda checks: qwen(checks, "2"),
    "qwen2_5_vl": lambda checks: qwen(checks, "2.5"),
    "qwen3_vl": lambda checks: qwen(checks, "3"),
    "internvl": internvl,
    "smolvlm": smolvlm,
    "llava_onevision": llava_onevision,
}
FAMILIES = pytest.mark.parametrize("name", BUILDERS)


@pytest.fixture(scope="module")
def folder_of(checks: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the Hugging Face folder of a family, once."""
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            torch.manual_seed(9)
            model, processor = BUILDERS[name](checks)
            model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
            model.generation_config.pad_token_id = 0
            made[name] = tmp_path_factory.mktemp(name)
            save_model(model, Renderer(processor), made[name])
        return made[name]

    return find


@pytest.fixture
def loaded(name: str, folder_of: Callable[[str], Path]) -> tuple[Any, Renderer]:
    """The family's model and renderer, loaded as a user's are."""
    folder = str(folder_of(name))
    model = load_model(folder).eval()
    return model, load_renderer(folder, model)


@FAMILIES
def test_generation_and_scoring(name: str, loaded: tuple[Any, Renderer], checks: Any) -> None:
    model, renderer = loaded
    checks.check_shared_prefill(model, renderer)
    checks.check_generation(model, renderer)
    checks.check_scoring(copy.deepcopy(model), renderer)
    checks.check_parts(model)


@FAMILIES
def test_training_and_export(name: str, folder_of: Callable[[str], Path], checks: Any, tmp_path: Path) -> None:
    checks.check_training(folder_of(name), tmp_path)
