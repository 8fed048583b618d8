"""The callbacks: rollouts, checkpoints, export, benchmarks, predictions."""

from mstar.callbacks.benchmark import BenchmarkCallback
from mstar.callbacks.checkpoint import IterationCheckpoint
from mstar.callbacks.export import ExportCallback
from mstar.callbacks.predictions import PredictionsCallback
from mstar.callbacks.refresh import RewardModelRefresh
from mstar.callbacks.rollout import RolloutCallback

__all__ = [
    "BenchmarkCallback",
    "ExportCallback",
    "IterationCheckpoint",
    "PredictionsCallback",
    "RewardModelRefresh",
    "RolloutCallback",
]
