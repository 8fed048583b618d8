"""A vision-language model made of a language model that has no eyes: an ordinary Idefics3 with a small new tower.

The architecture is that of SmolVLM: patches, a vision tower, a connector that puts 2 x 2 patches into one token, and
the language model. Tower and connector are new and know nothing yet; ``mstar.small.align`` teaches them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from mstar.models.tiny import count_image_tokens, make_model, make_processor
from mstar.prompts.coloured import SIZE

if TYPE_CHECKING:
    from transformers import (
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        LlamaForCausalLM,
        PreTrainedTokenizerBase,
    )

IMAGE_TOKENS: Final = count_image_tokens(SIZE)
_PAD: Final = "<|endoftext|>"
_END: Final = "<|im_end|>"
_PICTURE: Final = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
# ChatML, which the language model was tuned on, without its standing system turn: every token costs time.
_CHAT_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_processor(tokenizer: PreTrainedTokenizerBase) -> Idefics3Processor:
    """Builds the processor around a tokenizer, which gets the tokens that stand around pictures."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(_PICTURE), "pad_token": _PAD, "eos_token": _END})
    tokenizer.padding_side = "left"
    return make_processor(tokenizer, SIZE, _CHAT_TEMPLATE)


def build_model(
    language: LlamaForCausalLM, processor: Idefics3Processor, seed: int = 0
) -> Idefics3ForConditionalGeneration:
    """Puts a new tower and connector before a language model.

    The new weights are those of a seed; the global random state is left as it was.
    """
    tokenizer: Any = processor.tokenizer
    vision = {"hidden_size": 160, "intermediate_size": 320, "num_hidden_layers": 4, "num_attention_heads": 4}
    model: Any = make_model(processor, SIZE, vision, language.config.to_dict(), seed)
    weights = {name.removeprefix("model."): value for name, value in language.model.state_dict().items()}
    old = weights["embed_tokens.weight"]
    # What stands around a picture was never seen in training: the mean of all tokens says the least.
    new = old.mean(0, keepdim=True).expand(len(tokenizer) - len(old), -1)
    weights["embed_tokens.weight"] = torch.cat([old, new])
    model.model.text_model.load_state_dict(weights)
    model.tie_weights()
    # Image tokens begin about as long as the rows of the embedding that they are to become.
    model.model.connector.modality_projection.proj.weight.data *= 0.05
    built: Idefics3ForConditionalGeneration = model.eval()
    return built
