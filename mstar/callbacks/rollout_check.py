"""Whether the settings of a self-evolving run fit together; found out before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from mstar.callbacks.training_data import check_prompts
from mstar.datamodules.policy import PolicyDataModule
from mstar.errors import ConfigError, DataError
from mstar.models.step_scorer import check_step_scorer
from mstar.modules.policy import PolicyModule

if TYPE_CHECKING:
    from mstar.callbacks.rollout import RolloutCallback

__all__ = ["check_rollout", "require_data", "require_policy"]


def check_rollout(rollout: RolloutCallback, trainer: Trainer, data: PolicyDataModule) -> None:
    """Checks that the pieces fit together.

    Args:
        rollout: The callback with its settings.
        trainer: The trainer of the run.
        data: Where its prompts come from.

    Raises:
        ConfigError: two settings contradict each other, or the MPRM's folder is missing or lacks a part.
        DataError: a prompt has no answer, two have the same id, or there are none.
    """
    if rollout.reward_model is not None:
        check_step_scorer(Path(rollout.reward_model))
    if rollout.unlabelled != "off" and data.unlabelled is None:
        raise ConfigError(f"rollout.unlabelled is '{rollout.unlabelled}', but data.unlabelled is not set.")
    if rollout.unlabelled_start > 0 and (trainer.max_epochs is None or trainer.max_epochs < 0):
        raise ConfigError("rollout.unlabelled_start is a fraction of trainer.max_epochs, which is not set.")
    adaptive = rollout.controller.candidates != (rollout.controller.current,)
    if adaptive:
        if data.validation is None:
            raise ConfigError("an adaptive rollout.temperature is chosen on data.validation, which is not set.")
        if rollout.reward_model is None:
            raise ConfigError("an adaptive rollout.temperature needs rollout.reward_model for its Reward-Pass@k.")
    check_prompts(data.train, "data.train", rollout.grader)
    if data.validation is not None and (rollout.dynamics or adaptive):
        check_prompts(data.validation, "data.validation", rollout.grader)
    if rollout.unlabelled == "oracle" and data.unlabelled is not None:
        check_prompts(data.unlabelled, "data.unlabelled", rollout.grader)
    if rollout.unlabelled == "voting" and data.unlabelled is not None and len(data.unlabelled) == 0:
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
