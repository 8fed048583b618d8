"""LightningModules: the policy and the multimodal process reward model."""

from mstar.modules.implicit import ImplicitRewardModule
from mstar.modules.mprm import MPRMModule
from mstar.modules.optimization import WarmupSchedule
from mstar.modules.policy import PolicyModule

__all__ = ["ImplicitRewardModule", "MPRMModule", "PolicyModule", "WarmupSchedule"]
