"""The families whose processors need no torchvision: Idefics3, LLaVA, Gemma 3. The others are in tests/vllm."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from mstar.generation.vllm_prompts import prompt_tokens
from mstar.models.backbone import load_model, load_renderer
from mstar.models.export import save_model
from mstar.prompts.tiny_dice import TinyDiceImage
from mstar.rendering import Renderer
from mstar.types import Prompt, Turn

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def gemma3(folder: Path, checks: Any) -> None:
    """A tiny Gemma 3: sliding windows shorter than a prompt, and attention both ways among a picture's tokens."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tokenizer = checks.make_tokenizer(
        "<end_of_turn>",
        {"bos_token": "<bos>", "image_token": "<image_soft_token>", "boi_token": "<start_of_image>",
         "eoi_token": "<end_of_image>"},
        ["<start_of_turn>"],
    )  # fmt: skip
    image, begin, end = (
        tokenizer.convert_tokens_to_ids(token) for token in ("<image_soft_token>", "<start_of_image>", "<end_of_image>")
    )
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(images, tokenizer, chat_template=TEMPLATE, image_seq_length=4)
    size = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "initializer_range": 0.2}
    config = Gemma3Config(
        text_config={
            **size, "num_hidden_layers": 3, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": len(tokenizer),
            "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id, "pad_token_id": 0,
        },
        vision_config={
            **size, "model_type": "siglip_vision_model", "num_hidden_layers": 1, "image_size": 32, "patch_size": 8
        },
        mm_tokens_per_image=4, image_token_index=image, boi_token_index=begin, eoi_token_index=end,
        initializer_range=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(9)
    model = Gemma3ForConditionalGeneration(config)
    # It starts at zero, and pictures would be all alike.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    save_model(model, Renderer(processor), folder)


@pytest.fixture(scope="module")
def folders(split_folder: Path, llava: Any, checks: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A Hugging Face folder of each family."""
    root = tmp_path_factory.mktemp("families")
    save_model(llava.model, llava.renderer, root / "llava")
    gemma3(root / "gemma3", checks)
    return {"idefics3": split_folder, "llava": root / "llava", "gemma3": root / "gemma3"}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, tuple[Any, Renderer]]:
    """Each family's model and renderer, loaded as a user's are."""
    models = {name: load_model(str(folder)).eval() for name, folder in folders.items()}
    return {name: (model, load_renderer(str(folders[name]), model)) for name, model in models.items()}


NAMES = ("idefics3", "llava", "gemma3")
FAMILIES = pytest.mark.parametrize("name", NAMES)


@FAMILIES
def test_the_shared_prefill(name: str, loaded: dict[str, tuple[Any, Renderer]], checks: Any) -> None:
    # A sliding window counts padding, so rows of unequal length can be lengthened only once.
    checks.check_shared_prefill(*loaded[name], twice=name != "gemma3")


@FAMILIES
def test_generation(name: str, loaded: dict[str, tuple[Any, Renderer]], checks: Any) -> None:
    checks.check_generation(*loaded[name])


@FAMILIES
def test_scoring_and_parts(name: str, loaded: dict[str, tuple[Any, Renderer]], checks: Any) -> None:
    model, renderer = loaded[name]
    checks.check_scoring(copy.deepcopy(model), renderer)
    checks.check_parts(model)


@FAMILIES
def test_training_and_export(name: str, folders: dict[str, Path], checks: Any, tmp_path: Path) -> None:
    checks.check_training(folders[name], tmp_path)


# What llava-hf/llava-1.5-7b-hf has.
LLAVA_1_5 = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@pytest.mark.parametrize("template", [LLAVA_1_5, "{{ bos_token }}" + LLAVA_1_5])
def test_the_first_token_is_there_once(template: str, llava: Any) -> None:
    """LLaVA's tokenizer puts it before a text, and a blank before the first word, which ``<s>`` as text takes away."""
    from transformers import LlamaTokenizer, LlavaProcessor

    tokens = ["<unk>", "<s>", "</s>", *"\u2581\nabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:?", "\u2581U"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = LlamaTokenizer(vocabulary, [("\u2581", "U")], add_bos_token=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "pad_token": "<unk>"})
    images: Any = llava.renderer.processor.image_processor
    processor: Any = LlavaProcessor(
        images, tokenizer, 16, "default", chat_template=template, num_additional_image_tokens=1
    )
    picture = TinyDiceImage("test", 0, 0)
    content = [{"type": "image", "image": picture.load()}, {"type": "text", "text": "Even?"}]
    [expected] = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, add_generation_prompt=True
    )["input_ids"]
    assert expected.count(tokenizer.bos_token_id) == 1

    renderer, prompt = Renderer(processor), Prompt("p", "Even?", (picture,))
    assert renderer.prompt_inputs([prompt]).ids_BT.tolist() == [expected]
    assert renderer.response_inputs([prompt], ["no"]).inputs.ids_BT[0, : len(expected)].tolist() == expected
    first = expected.index(processor.image_token_id)
    assert prompt_tokens(renderer, prompt) == expected[: first + 1] + expected[first + 4 :]
    short = Prompt("p", "Even?")
    assert (renderer.bound_tokens(short) or 0) >= renderer.count_tokens(short)
    # A model of text leaves it to its template.
    [alone] = Renderer(tokenizer_alone(tokenizer, template)).prompt_inputs([short]).ids_BT.tolist()  # type: ignore[arg-type]
    assert alone.count(tokenizer.bos_token_id) == template.count("bos_token")


# As a copy of LLaVA-NeXT for Llama 3 has it: every text ends the turn.
ENDS_EVERY_TEXT = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] + '<end_of_utterance>' }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
# Which takes no picture behind text at all.
REFUSES = LLAVA_1_5.replace(
    "{% for message in messages %}",
    "{% for message in messages %}{% if message['content'][1:] and message['content'][0]['type'] == 'text' %}"
    "{{ raise_exception('no') }}{% endif %}",
)


@pytest.mark.parametrize("template", [LLAVA_1_5, ENDS_EVERY_TEXT, REFUSES])
def test_where_a_template_puts_pictures_first_the_text_names_those_behind_it(template: str, llava: Any) -> None:
    processor = copy.copy(llava.renderer.processor)
    processor.chat_template = template
    renderer = Renderer(processor)
    picture = TinyDiceImage("train", 0, 0)
    ends = "<end_of_utterance>" if template is ENDS_EVERY_TEXT else " "
    for text, shown in (
        ("What is <image> and <image>?", "<image>\n<image>\nWhat is image 1 and image 2?"),
        ("<image> or <image>?", "<image>\n<image>\nimage 1 or image 2?"),
        # As they are shown anyway.
        ("<image><image>Which?", "<image>\n<image>\nWhich?"),
        ("Which?", "<image>\n<image>\nWhich?"),
    ):
        prompt = Prompt("p", text, (picture, picture))
        assert renderer.render_prompt(prompt) == f"USER: {shown}{ends}ASSISTANT:"
    earlier = (Turn("user", "<image>Even?"), Turn("assistant", "no"))
    assert renderer.render_prompt(Prompt("p", "And <image>?", (picture, picture), turns=earlier)) == (
        f"USER: <image>\nEven?{ends}ASSISTANT: no{ends}USER: <image>\nAnd image 2?{ends}ASSISTANT:"
    )


def tokenizer_alone(tokenizer: Any, template: str) -> Any:
    """The tokenizer of a model of text."""
    alone = copy.deepcopy(tokenizer)
    alone.chat_template = template
    return alone
