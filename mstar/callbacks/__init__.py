"""The only code that touches the Trainer: rollouts, checkpoints, export, predictions."""

from mstar.callbacks.checkpoint import IterationCheckpoint
from mstar.callbacks.export import ExportCallback
from mstar.callbacks.predictions import PredictionsCallback
from mstar.callbacks.refresh import RewardModelRefresh
from mstar.callbacks.rollout import RolloutCallback

__all__ = ["ExportCallback", "IterationCheckpoint", "PredictionsCallback", "RewardModelRefresh", "RolloutCallback"]
