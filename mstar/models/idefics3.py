"""Small models of one architecture, Idefics3 (that of SmolVLM), built from their sizes, and their processors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mstar.models.seeding import seeded

if TYPE_CHECKING:
    from transformers import Idefics3ForConditionalGeneration, Idefics3Processor

_PATCH: Final = 8
# Patches to a side that become one token.
_SHUFFLE: Final = 2
# Their towers are small and learn from nothing: with the usual 0.02 it takes far longer to begin.
_RANGE: Final = 0.08


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
        vision: The sizes of its tower.
        text: The settings of its language model.
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
