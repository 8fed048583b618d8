"""Process reward models that others published, one adapter a file, each with the source of its form."""

from mstar.rewards.published.math_shepherd import MathShepherd
from mstar.rewards.published.mm_prm import MMPRM
from mstar.rewards.published.qwen_math_prm import QwenMathPRM
from mstar.rewards.published.qwen_vl_prm import QwenVLPRM
from mstar.rewards.published.ursa import URSA
from mstar.rewards.published.visual_prm import VisualPRM

__all__ = ["MMPRM", "URSA", "MathShepherd", "QwenMathPRM", "QwenVLPRM", "VisualPRM"]
