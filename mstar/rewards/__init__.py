"""Stage 3b, how good is a response: rewards."""

from mstar.rewards.process import ProcessReward, process_reward

__all__ = ["ProcessReward", "process_reward"]
