"""Benchmarks, from the files as they are published: one adapter a file."""

from mstar.prompts.benchmarks.ai2d import AI2D
from mstar.prompts.benchmarks.base import BenchmarkItem, BenchmarkSource
from mstar.prompts.benchmarks.m3cot import M3CoT
from mstar.prompts.benchmarks.mathvista import MathVista
from mstar.prompts.benchmarks.mmbench import MMBench
from mstar.prompts.benchmarks.mmstar import MMStar
from mstar.prompts.benchmarks.visual_process_bench import LabelledSteps, VisualProcessBench

__all__ = [
    "AI2D",
    "BenchmarkItem",
    "BenchmarkSource",
    "LabelledSteps",
    "M3CoT",
    "MMBench",
    "MMStar",
    "MathVista",
    "VisualProcessBench",
]
