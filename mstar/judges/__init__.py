"""Language models by address that judge what the rules of grading and Monte-Carlo labels do not: answers, and steps."""

from mstar.judges.answers import JudgeGrader
from mstar.judges.steps import StepJudge

__all__ = ["JudgeGrader", "StepJudge"]
