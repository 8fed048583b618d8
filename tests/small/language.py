"""A language model of SmolLM2's architecture with random weights, and a tokenizer that splits charts as it does."""

from __future__ import annotations

from functools import cache
from typing import Any

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from mstar.models.seeding import seeded
from mstar.prompts import Charts


@cache
def tokenizer_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[
            AddedToken(token, special=True, normalized=False)
            for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = list(Charts("seed", 120))
    tokenizer.train_from_iterator([f"{p.question}\n{p.rationale}" for p in prompts], trainer)
    return str(tokenizer.to_str())


def tiny_language_model() -> tuple[Any, Any]:
    """What ``load_language_model`` gives, tiny."""
    untyped: Any = transformers
    tokenizer = untyped.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer_json()),
        eos_token="<|im_end|>",  # noqa: S106 - no password
        pad_token="<|im_end|>",  # noqa: S106 - no password
    )
    config = untyped.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    with seeded(0):
        return untyped.LlamaForCausalLM(config), tokenizer
