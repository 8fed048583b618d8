"""Stage 2, prompts to responses: the engine interface and the engines."""

from mstar.generation.base import Engine, Request, Sample, derive_seed, plan_samples
from mstar.generation.transformers_engine import TransformersEngine

__all__ = ["Engine", "Request", "Sample", "TransformersEngine", "derive_seed", "plan_samples"]
