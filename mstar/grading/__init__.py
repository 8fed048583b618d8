"""Stage 3a, is the final answer right: extract, normalise, compare."""

from mstar.grading.answer import AnswerGrader
from mstar.grading.base import Grader, grade_all, grade_response
from mstar.grading.official import MathVistaGrader

__all__ = ["AnswerGrader", "Grader", "MathVistaGrader", "grade_all", "grade_response"]
