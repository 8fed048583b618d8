"""What Lightning's trainer works with: the strategy, checkpoint files, where a fit ends, loggers."""

from mstar.trainer.sharded import ShardedStrategy
from mstar.trainer.trackio_logger import TrackioLogger

__all__ = ["ShardedStrategy", "TrackioLogger"]
