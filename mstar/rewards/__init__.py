"""Stage 3b, how good is a response: rewards."""

from mstar.rewards.base import (
    Aggregation,
    Reward,
    RewardHost,
    add_process_rewards,
    aggregate,
    require_finite_scores,
)
from mstar.rewards.implicit import Implicit
from mstar.rewards.likelihood import Likelihood
from mstar.rewards.mprm import MPRM
from mstar.rewards.oracle import Oracle

__all__ = [
    "MPRM",
    "Aggregation",
    "Implicit",
    "Likelihood",
    "Oracle",
    "Reward",
    "RewardHost",
    "add_process_rewards",
    "aggregate",
    "require_finite_scores",
]
