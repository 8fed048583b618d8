"""The embedded model: a tiny Idefics3 (the architecture of SmolVLM) with its own tokenizer and processor.

It is written as an ordinary Hugging Face folder and loaded like any other model; nothing outside this file knows that
it is tiny.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from mstar.models.idefics3 import make_model, make_processor
from mstar.prompts.tiny_dice import tokenizer_texts

if TYPE_CHECKING:
    from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

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

    untyped: Any = transformers
    fast = untyped.PreTrainedTokenizerFast(
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
