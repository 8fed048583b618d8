"""The only code that touches the Trainer: rollouts, checkpoints, export."""

from mstar.callbacks.checkpoint import IterationCheckpoint
from mstar.callbacks.export import ExportCallback
from mstar.callbacks.refresh import RewardModelRefresh
from mstar.callbacks.rollout import RolloutCallback

__all__ = ["ExportCallback", "IterationCheckpoint", "RewardModelRefresh", "RolloutCallback"]
