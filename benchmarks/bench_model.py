"""The model and the data of the benchmarks: a small Idefics3 with random weights, and prompts of any length.

It is large enough that arithmetic, not Python, takes the time (12 million parameters, a vocabulary of 8,192), and small
enough for two CPU cores.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from PIL import Image

from mstar.models.tiny import build_tiny_processor
from mstar.types import Prompt

__all__ = [
    "HIDDEN",
    "IMAGE_TOKENS",
    "LAYERS",
    "VOCABULARY",
    "Picture",
    "build_model",
    "build_processor",
    "build_tokenizer",
    "make_prompt",
    "make_text",
]

VOCABULARY: Final = 8192
HIDDEN: Final = 256
LAYERS: Final = 6
_IMAGE: Final = 128
_PATCH: Final = 16
_SHUFFLE: Final = 2
IMAGE_TOKENS: Final = (_IMAGE // _PATCH // _SHUFFLE) ** 2
_SPECIAL: Final = ("<pad>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>")


@dataclass(frozen=True)
class Picture:
    """A picture of random colours.

    Args:
        seed: Which one.
        edge: Its width and height in pixels.
    """

    seed: int
    edge: int = _IMAGE

    @property
    def uri(self) -> str:
        """A name unique to the picture."""
        return f"random/{self.edge}/{self.seed}"

    def load(self) -> Image.Image:
        """Paints it."""
        size = (self.edge, self.edge)
        return Image.frombytes("RGB", size, random.Random(self.seed).randbytes(3 * self.edge * self.edge))


@cache
def _words() -> tuple[str, ...]:
    """Words that the tokenizer has one token for, each with the space before it."""
    from tokenizers import pre_tokenizers

    alphabet = len(pre_tokenizers.ByteLevel.alphabet())
    source = random.Random(0)
    words: dict[str, None] = {}
    while len(words) < VOCABULARY - alphabet - len(_SPECIAL):
        words[" " + "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=6))] = None
    return tuple(words)


def build_tokenizer(end: str, named: Mapping[str, str], others: Sequence[str] = ()) -> Any:
    """A tokenizer of special tokens, letters and words: 8,192 tokens, and one for each special one beyond five.

    Every word of the texts is one token: the speed of a tokenizer is not what is measured here.

    Args:
        end: The end token.
        named: Special tokens that a processor asks for by an attribute's name.
        others: Further special tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = list(dict.fromkeys(["<pad>", end, *named.values(), *others]))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [word.replace(" ", "Ġ") for word in _words()]
    vocabulary = {token: number for number, token in enumerate([*special, *letters, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=letters[0]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token=end, padding_side="left",  # noqa: S106
        clean_up_tokenization_spaces=False, extra_special_tokens=dict(named),
    )  # fmt: skip


def build_processor() -> Any:
    """The embedded model's processor with a vocabulary of 8,192 and pictures of 128 pixels (16 tokens)."""
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

    fast = build_tokenizer("<end_of_utterance>", {}, _SPECIAL)
    edge = {"longest_edge": _IMAGE}
    images = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    template = build_tiny_processor().chat_template
    return Idefics3Processor(images, fast, image_seq_len=IMAGE_TOKENS, chat_template=template)


def build_model(processor: Any, seed: int = 0) -> Any:
    """The model, with random weights.

    Args:
        processor: Its processor.
        seed: Seed of the weights.
    """
    from transformers import GenerationConfig, Idefics3Config, Idefics3ForConditionalGeneration

    tokenizer = processor.tokenizer
    size = {"hidden_size": HIDDEN, "intermediate_size": 3 * HIDDEN, "num_attention_heads": 4}
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        scale_factor=_SHUFFLE,
        vision_config={**size, "num_hidden_layers": 4, "image_size": _IMAGE, "patch_size": _PATCH},
        text_config={
            **size,
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": 4,
            "max_position_embeddings": 4096,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Idefics3ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def make_text(seed: int, num_tokens: int) -> str:
    """A text of so many tokens.

    Args:
        seed: Which one.
        num_tokens: Its tokens.
    """
    return "".join(random.Random(seed).choices(_words(), k=num_tokens))


def make_prompt(number: int, num_tokens: int) -> Prompt:
    """A prompt with one picture, of so many tokens when it is rendered."""
    overhead = IMAGE_TOKENS + 4  # three marks around the picture, and the line break after the question
    return Prompt(f"p{number}", make_text(number, max(num_tokens - overhead, 1)), (Picture(number),), answer="1")
