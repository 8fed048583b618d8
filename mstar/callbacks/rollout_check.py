"""Whether the settings of a self-evolving run fit together; found out before anything is written."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from mstar.callbacks.rollout_settings import RolloutSettings
from mstar.callbacks.training_data import check_prompts
from mstar.callbacks.watchers import check_watched
from mstar.datamodules.policy import PolicyDataModule
from mstar.errors import ConfigError, DataError
from mstar.modules.policy import PolicyModule
from mstar.modules.trainable import check_trainable

__all__ = ["check_rollout", "require_data", "require_policy"]


def check_rollout(settings: RolloutSettings, trainer: Trainer, policy: PolicyModule, data: PolicyDataModule) -> None:
    """Checks that the pieces fit together.

    Args:
        settings: The rollout's settings.
        trainer: The trainer of the run.
        policy: What it trains.
        data: Where its prompts come from.

    Raises:
        ConfigError: two settings contradict each other, or the reward lacks a part.
        DataError: a prompt has no answer, two have the same id, or there are none.
    """
    check_watched(trainer, dynamics=settings.dynamics and data.validation is not None)
    refresh = settings.refresh
    if refresh is not None:
        # Its MPRM starts from the policy, with weights of the same type.
        check_trainable(policy, trainer, refresh.lr, refresh.optimizer, "rollout.refresh_reward_model.lr")
    if settings.reward is not None:
        settings.reward.check()
    if settings.unlabelled != "off" and data.unlabelled is None:
        raise ConfigError(f"rollout.unlabelled is '{settings.unlabelled}', but data.unlabelled is not set.")
    if settings.unlabelled_start > 0 and (trainer.max_epochs is None or trainer.max_epochs < 0):
        raise ConfigError("rollout.unlabelled_start is a fraction of trainer.max_epochs, which is not set.")
    adaptive = settings.controller.candidates != (settings.controller.current,)
    if adaptive:
        if data.validation is None:
            raise ConfigError("an adaptive rollout.temperature is chosen on data.validation, which is not set.")
        if settings.reward is None:
            raise ConfigError("an adaptive rollout.temperature needs rollout.reward_model for its Reward-Pass@k.")
    check_prompts(data.train, "data.train", settings.grader)
    if data.validation is not None and (settings.dynamics or adaptive):
        check_prompts(data.validation, "data.validation", settings.grader)
    if settings.unlabelled == "oracle" and data.unlabelled is not None:
        check_prompts(data.unlabelled, "data.unlabelled", settings.grader)
    if settings.unlabelled == "voting" and data.unlabelled is not None and len(data.unlabelled) == 0:
        raise DataError("data.unlabelled has no prompts, so there is nothing to vote on; mend its settings.")


def require_policy(module: LightningModule) -> PolicyModule:
    """The module, if rollouts can train it.

    Raises:
        ConfigError: it is not a PolicyModule.
    """
    if not isinstance(module, PolicyModule):
        raise ConfigError(f"rollout trains a PolicyModule, but model is a {type(module).__name__}; drop one of them.")
    return module


def require_data(data: LightningDataModule | None) -> PolicyDataModule:
    """The data, if rollouts can take their prompts from it.

    Raises:
        ConfigError: it is not a PolicyDataModule.
    """
    if not isinstance(data, PolicyDataModule):
        raise ConfigError(f"rollout needs data of the class PolicyDataModule, but data is a {type(data).__name__}.")
    return data
