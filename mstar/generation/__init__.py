"""Stage 2, prompts to responses: the engine interface and the engines."""

from mstar.generation.base import Engine, Request, Sample, derive_seed, draw_responses, plan_samples
from mstar.generation.openai_engine import OpenAIEngine
from mstar.generation.transformers_engine import TransformersEngine
from mstar.generation.vllm_engine import VllmEngine
from mstar.generation.vllm_server_engine import VllmServerEngine

__all__ = [
    "Engine",
    "OpenAIEngine",
    "Request",
    "Sample",
    "TransformersEngine",
    "VllmEngine",
    "VllmServerEngine",
    "derive_seed",
    "draw_responses",
    "plan_samples",
]
