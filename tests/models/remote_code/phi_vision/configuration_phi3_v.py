"""A stand-in with the call signature of Phi-3.5-vision's own code: the configuration."""

from transformers import LlamaConfig


class Phi3VConfig(LlamaConfig):
    model_type = "phi3_v"
