"""Process reward models that others published, one adapter a file, each with the source of its form."""

from mstar.rewards.published.math_shepherd import MathShepherd
from mstar.rewards.published.qwen_math_prm import QwenMathPRM
from mstar.rewards.published.qwen_vl_prm import QwenVLPRM

__all__ = ["MathShepherd", "QwenMathPRM", "QwenVLPRM"]
