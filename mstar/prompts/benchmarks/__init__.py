"""Benchmarks, from the files as they are published: one adapter a file."""

from mstar.prompts.benchmarks.ai2d import AI2D
from mstar.prompts.benchmarks.base import BenchmarkItem, BenchmarkSource, LabelledSteps, StepBenchmark
from mstar.prompts.benchmarks.chart_qa import ChartQA
from mstar.prompts.benchmarks.dyna_math import DynaMath
from mstar.prompts.benchmarks.logic_vista import LogicVista
from mstar.prompts.benchmarks.m3cot import M3CoT
from mstar.prompts.benchmarks.math_verse import MathVerse
from mstar.prompts.benchmarks.math_vision import MathVision
from mstar.prompts.benchmarks.mathvista import MathVista
from mstar.prompts.benchmarks.mmbench import MMBench
from mstar.prompts.benchmarks.mmmu import MMMU, MMMUPro
from mstar.prompts.benchmarks.mmstar import MMStar
from mstar.prompts.benchmarks.process_bench import ProcessBench
from mstar.prompts.benchmarks.visual_process_bench import VisualProcessBench
from mstar.prompts.benchmarks.we_math import WeMath

__all__ = [
    "AI2D",
    "MMMU",
    "BenchmarkItem",
    "BenchmarkSource",
    "ChartQA",
    "DynaMath",
    "LabelledSteps",
    "LogicVista",
    "M3CoT",
    "MMBench",
    "MMMUPro",
    "MMStar",
    "MathVerse",
    "MathVision",
    "MathVista",
    "ProcessBench",
    "StepBenchmark",
    "VisualProcessBench",
    "WeMath",
]
