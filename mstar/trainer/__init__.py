"""What Lightning's trainer works with: the strategy, checkpoint files, where a fit ends, loggers."""

from mstar.trainer.sharded import ShardedStrategy

__all__ = ["ShardedStrategy"]
