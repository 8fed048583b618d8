"""A stand-in with the call signature of MiniCPM-Llama3-V-2.5's own code: the model.

As there, ``forward`` takes one dictionary, there are no output embeddings, and pictures are lists of slices a row.
"""

import torch
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedModel

from .configuration_minicpm import MiniCPMVConfig

VISION = 24


class Resampler(nn.Module):
    def __init__(self, queries, width):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(queries, VISION))
        self.attn = nn.MultiheadAttention(VISION, 2, batch_first=True)
        self.proj = nn.Linear(VISION, width)
        self.positions = nn.Parameter(torch.zeros(64, VISION))

    def forward(self, features, tgt_sizes):
        lengths = tgt_sizes.prod(1)
        padding = torch.arange(features.shape[1])[None] >= lengths[:, None]
        queries = self.query[None].expand(len(features), -1, -1)
        keys = features + self.positions[: features.shape[1]]
        return self.proj(self.attn(queries, keys, features, key_padding_mask=padding)[0])


class MiniCPMV(PreTrainedModel):
    config_class = MiniCPMVConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.llm = LlamaForCausalLM(config)
        self.vpm = nn.Linear(3 * 8 * 8, VISION)
        self.resampler = Resampler(config.query_num, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.llm.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.llm.embed_tokens = value

    def get_vllm_embedding(self, data):
        slices = [piece.flatten(end_dim=1).permute(1, 0) for row in data["pixel_values"] for piece in row]
        states = [[] for _ in data["pixel_values"]]
        if slices:
            sizes = torch.vstack(data["tgt_sizes"]).type(torch.int32)
            padded = torch.nn.utils.rnn.pad_sequence(slices, batch_first=True)  # slices, columns, 3 x 8
            columns = padded.reshape(len(slices), -1, 8, 24).transpose(2, 3).flatten(2)  # one patch a row
            features = self.resampler(self.vpm(columns), sizes)
            start = 0
            for row, pieces in enumerate(data["pixel_values"]):
                if len(pieces) > 0:
                    states[row] = features[start : start + len(pieces)]
                    start += len(pieces)
        embedding = self.llm.model.embed_tokens(data["input_ids"])
        for row, state in enumerate(states):
            if len(state) > 0:
                bounds = data["image_bound"][row]
                places = torch.stack([torch.arange(r[0], r[1], dtype=torch.long) for r in bounds])
                embedding[row].scatter_(
                    0, places.view(-1, 1).repeat(1, embedding.shape[-1]), state.view(-1, state.shape[-1])
                )
        return embedding, states

    def forward(self, data, **kwargs):
        embedding, _ = self.get_vllm_embedding(data)
        return self.llm(input_ids=None, position_ids=data["position_ids"].long(), inputs_embeds=embedding, **kwargs)

    def generate(self, data, **kwargs):
        with torch.inference_mode():
            embedding, _ = self.get_vllm_embedding(data)
            return self.llm.generate(inputs_embeds=embedding, pad_token_id=0, **kwargs)
