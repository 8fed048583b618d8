"""A stand-in with the call signature of Phi-3.5-vision's own code: the model."""

import torch
from torch import nn
from transformers import GenerationMixin, LlamaModel, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_phi3_v import Phi3VConfig


class Phi3ImageEmbedding(nn.Module):
    def __init__(self, config, wte):
        super().__init__()
        self.wte = wte
        self.img_processor = nn.Linear(3 * 8 * 8, 24)
        self.img_projection = nn.Linear(24, config.hidden_size)
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 24))
        self.vocab_size = config.vocab_size

    def forward(self, input_ids, pixel_values, image_sizes):
        places = (input_ids < 0).nonzero(as_tuple=True)
        # As the original does: the caller's ids are overwritten.
        input_ids.clamp_min_(0).clamp_max_(self.vocab_size)
        hidden = self.wte(input_ids)
        features = []
        for crops, size in zip(pixel_values, image_sizes, strict=True):
            count = int(size.prod()) // 64
            patches = crops.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
            features.append(self.img_projection(self.img_processor(patches)[:count] + self.sub_GN[0]))
        return hidden.index_put(places, torch.cat(features).to(hidden.dtype))


class Phi3VModel(LlamaModel):
    config_class = Phi3VConfig

    def __init__(self, config):
        super().__init__(config)
        self.vision_embed_tokens = Phi3ImageEmbedding(config, wte=self.embed_tokens)
        self.post_init()

    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None,
        pixel_values=None, image_sizes=None, use_cache=None, **kwargs,
    ):  # fmt: skip
        if use_cache:
            # As the original does, which is written for Transformers 4.
            held = past_key_values.get_usable_length((input_ids if inputs_embeds is None else inputs_embeds).shape[1])
            assert held == past_key_values.get_seq_length()
        if inputs_embeds is None and pixel_values is not None and image_sizes is not None:
            inputs_embeds = self.vision_embed_tokens(input_ids, pixel_values, image_sizes)
            input_ids = None
        return super().forward(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
            past_key_values=past_key_values, inputs_embeds=inputs_embeds, use_cache=use_cache,
        )  # fmt: skip


class Phi3VForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = Phi3VConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _tied_weights_keys = ["lm_head.weight"]  # noqa: RUF012

    def __init__(self, config):
        super().__init__(config)
        self.model = Phi3VModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None,
        pixel_values=None, image_sizes=None, labels=None, use_cache=None, **kwargs,
    ):  # fmt: skip
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
            past_key_values=past_key_values, inputs_embeds=inputs_embeds, pixel_values=pixel_values,
            image_sizes=image_sizes, use_cache=use_cache,
        )  # fmt: skip
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=outputs.past_key_values)
