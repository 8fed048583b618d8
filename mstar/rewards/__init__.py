"""Stage 3b, how good is a response: rewards."""

from mstar.rewards.base import Aggregation, Reward, RewardHost, aggregate
from mstar.rewards.likelihood import Likelihood
from mstar.rewards.mprm import MPRM
from mstar.rewards.oracle import Oracle
from mstar.rewards.process import ProcessReward

__all__ = ["MPRM", "Aggregation", "Likelihood", "Oracle", "ProcessReward", "Reward", "RewardHost", "aggregate"]
