"""A stand-in with the call signature of MiniCPM-Llama3-V-2.5's own code: the configuration."""

from transformers import LlamaConfig


class MiniCPMVConfig(LlamaConfig):
    model_type = "minicpmv"

    def __init__(self, query_num=3, **kwargs):
        self.query_num = query_num
        super().__init__(**kwargs)
