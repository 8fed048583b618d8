"""Stage 3a, is the final answer right: extract, normalise, compare."""

from mstar.grading.base import Grader
from mstar.grading.exact import ExactGrader

__all__ = ["ExactGrader", "Grader"]
