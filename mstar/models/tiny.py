"""Small models of one architecture, Idefics3 (that of SmolVLM), built from their sizes; and the embedded one.

That one has its own tokenizer and processor. It is written as an ordinary Hugging Face folder and loaded like any other
model; nothing outside this file knows that it is tiny.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from mstar.models.seeding import seeded
from mstar.prompts.tiny_dice import tokenizer_texts

if TYPE_CHECKING:
    from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

_PATCH: Final = 8
# Patches to a side that become one token.
_SHUFFLE: Final = 2
# Their towers are small and learn from nothing: with the usual 0.02 it takes far longer to begin.
_RANGE: Final = 0.08

# Of the embedded model.
_PAD: Final = "<pad>"
_END: Final = "<end_of_utterance>"
_SPECIAL: Final = (_PAD, _END, "<image>", "<fake_token_around_image>", "<global-img>")
_IMAGE_SIZE: Final = 32
# One turn is "<image>question\n" and then the response, closed by the end-of-utterance token.
_CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '\n' }}{% else %}<end_of_utterance>{% endif %}"
    "{% endfor %}"
)


def count_image_tokens(size: int) -> int:
    """Tokens of a picture that is so many pixels wide and high."""
    return (size // _PATCH // _SHUFFLE) ** 2


def make_processor(tokenizer: Any, size: int, chat_template: str) -> Idefics3Processor:
    """Makes the processor for pictures of a size around a tokenizer."""
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

    edge = {"longest_edge": size}
    images = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    return Idefics3Processor(images, tokenizer, image_seq_len=count_image_tokens(size), chat_template=chat_template)


def make_model(
    processor: Idefics3Processor, size: int, vision: Mapping[str, Any], text: Mapping[str, Any], seed: int
) -> Idefics3ForConditionalGeneration:
    """Makes a model with random weights, which follow from the seed; the global random state is left as it was.

    Args:
        size: Pixels of a picture's side.
    """
    import transformers

    untyped: Any = transformers
    tokenizer = processor.tokenizer
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = untyped.Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        scale_factor=_SHUFFLE,
        vision_config={**vision, "image_size": size, "patch_size": _PATCH, "initializer_range": _RANGE},
        text_config={**text, **ids, "vocab_size": len(tokenizer), "bos_token_id": None, "tie_word_embeddings": True},
        initializer_range=_RANGE,
    )
    with seeded(seed):
        model: Idefics3ForConditionalGeneration = untyped.Idefics3ForConditionalGeneration(config)
    model.generation_config = untyped.GenerationConfig(**ids)
    return model


@cache
def _tokenizer_json() -> str:
    """Trains the byte-level BPE tokenizer on generated texts, once a process."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        min_frequency=2,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in _SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_texts(), trainer)
    return str(tokenizer.to_str())


def build_tiny_processor() -> Idefics3Processor:
    """Builds the Idefics3 processor with the embedded model's own tokenizer."""
    import transformers
    from tokenizers import Tokenizer

    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json()),
        pad_token=_PAD,
        eos_token=_END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    return make_processor(fast, _IMAGE_SIZE, _CHAT_TEMPLATE)


def build_tiny_model(processor: Idefics3Processor, seed: int = 0) -> Idefics3ForConditionalGeneration:
    """Builds the model with random weights, which follow from the seed; the global random state is left as it was."""
    vision = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "initializer_range": 0.08,
    }
    return make_model(processor, _IMAGE_SIZE, vision, text, seed)
