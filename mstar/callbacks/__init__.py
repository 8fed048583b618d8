"""The only code that touches the Trainer: rollouts, checkpoints, export, predictions."""

from mstar.callbacks.checkpoint import IterationCheckpoint
from mstar.callbacks.export import ExportCallback
from mstar.callbacks.fsdp1_strategy import FSDP1Strategy
from mstar.callbacks.predictions import PredictionsCallback
from mstar.callbacks.refresh import RewardModelRefresh
from mstar.callbacks.rollout import RolloutCallback
from mstar.callbacks.sharded_strategy import ShardedStrategy

__all__ = [
    "ExportCallback",
    "FSDP1Strategy",
    "IterationCheckpoint",
    "PredictionsCallback",
    "RewardModelRefresh",
    "RolloutCallback",
    "ShardedStrategy",
]
