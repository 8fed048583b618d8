"""Whether the settings of a self-evolving run fit together; found out before anything is written."""

from __future__ import annotations

import logging
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Final

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from mstar.callbacks.rollout_settings import RolloutSettings
from mstar.callbacks.trainer_check import check_trainer
from mstar.callbacks.watchers import check_watched
from mstar.datamodules.policy import PolicyDataModule
from mstar.distributed import is_main
from mstar.errors import ConfigError, DataError
from mstar.evaluation.gradeable import check_prompts
from mstar.generation import TransformersEngine
from mstar.iteration.plan import count_indices, most_prompts
from mstar.models.backbone import find_model_type
from mstar.models.precision import Precision
from mstar.modules.backbone_module import precision_of
from mstar.modules.policy import PolicyModule
from mstar.modules.trainable import check_trainable
from mstar.prompts import PromptSource
from mstar.prompts.part import find_repetition
from mstar.rewards import Likelihood, Oracle
from mstar.selection import Selector
from mstar.temperature import TemperatureController

_log = logging.getLogger(__name__)
# How many times its share a process may draw for without a word.
_UNEVEN: Final = 1.15


def check_rollout(settings: RolloutSettings, trainer: Trainer, policy: PolicyModule, data: PolicyDataModule) -> None:
    """Checks that the pieces fit together.

    Raises:
        ConfigError: two settings contradict each other, the engine cannot run the model, or the reward lacks a part.
        DataError: a prompt has no answer, two have the same id, or there are none.
    """
    check_trainer(trainer)
    _prepare_engine(settings, policy, data)
    _check_likelihoods(settings)
    if (settings.objective is not None or settings.weighs) and policy.loss_kernel == "liger":
        what = "weights need" if settings.weighs else f"rollout.method '{settings.method}' needs"
        raise ConfigError(f"model.loss_kernel 'liger' gives no loss by token, which {what}: choose chunked.")
    _warn_of_rounding(settings, policy, precision_of(trainer, policy.dtype_name))
    check_watched(trainer, policy, settings, dynamics=settings.dynamics and data.validation is not None)
    refresh = settings.refresh
    if refresh is not None:
        # Its MPRM starts from the policy, with weights of the same type.
        rate, name = refresh.rate(policy), "rollout.refresh_reward_model.lr"
        check_trainable(policy, trainer, rate, refresh.optimizer, refresh.lr_scheduler, name)
        check_prompts(refresh.prompts, "rollout.refresh_reward_model.prompts", settings.grader)
    if settings.reward is not None:
        settings.reward.check()
    controller = type(settings.controller)
    learns = controller.update is not TemperatureController.update
    if learns and controller.load_state_dict is TemperatureController.load_state_dict:
        raise ConfigError(
            f"rollout.temperature '{controller.__name__}' learns in update, but a run that goes on would forget what: "
            "have its load_state_dict take up what its state_dict keeps (by default the temperature)."
        )
    if settings.reuse is not None and is_main():
        folder = Path(settings.reuse)
        if not folder.is_dir():
            _log.warning("rollout.reuse: there is no folder '%s', so that nothing is read from it", folder)
        elif any(any(folder.glob(plan)) for plan in ("plan.json", "*/plan.json")):
            _log.warning("rollout.reuse: '%s' lies within a run, so that nothing is read: name that run", folder)
    if settings.method == "rest_em" and settings.interval < 1 and is_main():
        _log.warning(
            "rollout.method rest_em trains the first weights anew in every iteration, with rollout.interval %g on that "
            "share of the prompts alone: ReST-EM takes all of them in each (rollout.interval: 1.0).",
            settings.interval,
        )
    selector = settings.selector
    if isinstance(selector, Selector) and selector.top_k != Selector.top_k and is_main():
        own = getattr(selector.rule, "top_k", selector.top_k)
        if own != selector.top_k:
            _log.warning(
                "rollout.top_k is %d, but a rule that is given by its class path has its own: set "
                "rollout.selection.init_args.top_k (%d).",
                *(selector.top_k, own),
            )
    unlabelled = data.unlabelled if settings.unlabelled != "off" else None
    if settings.unlabelled != "off" and unlabelled is None:
        raise ConfigError(f"rollout.unlabelled is '{settings.unlabelled}', but data.unlabelled is not set.")
    moves = isinstance(selector, Selector) and selector.final_threshold is not None
    if moves or settings.unlabelled_start > 0:
        option = "final_threshold" if moves else "unlabelled_start"
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            raise ConfigError(f"rollout.{option} counts in trainer.max_epochs, which is not set.")
        if trainer.max_steps > 0 and is_main():
            _log.warning(
                "rollout.%s counts in trainer.max_epochs (%s), but trainer.max_steps (%d) may end the training before: "
                "set max_epochs to the iterations that there will be.",
                *(option, trainer.max_epochs, trainer.max_steps),
            )
    _warn_of_idle(settings, trainer, data.train, unlabelled)
    _warn_of_long_examples(settings, data)
    adaptive = settings.controller.candidates != (settings.controller.current,)
    if adaptive:
        if data.validation is None:
            raise ConfigError("an adaptive rollout.temperature is chosen on data.validation, which is not set.")
        if settings.reward is None:
            raise ConfigError("an adaptive rollout.temperature needs rollout.reward_model for its Reward-Pass@k.")
    check_prompts(data.train, "data.train", settings.grader)
    _check_chains(settings, data.train, unlabelled)
    if data.validation is not None and (settings.dynamics or adaptive):
        check_prompts(data.validation, "data.validation", settings.grader)
    if unlabelled is not None:
        if settings.unlabelled == "oracle":
            check_prompts(unlabelled, "data.unlabelled", settings.grader)
        elif len(unlabelled) == 0:
            raise DataError("data.unlabelled has no prompts, so there is nothing to vote on; mend its settings.")
        place = find_repetition(prompt.id for prompt in chain(data.train, unlabelled))
        if place is not None:
            row = place - len(data.train)
            raise DataError(
                f"data.unlabelled: row {row} has the prompt id '{unlabelled[row].id}', which another prompt of "
                "data.train or data.unlabelled has, too: within both together every prompt needs an id of its own."
            )


def _warn_of_rounding(settings: RolloutSettings, policy: PolicyModule, precision: Precision) -> None:
    """Says that merged adapters are rounded to 16 bits, and that samples are not the policy's as it is trained."""
    merged = isinstance(settings.engine, TransformersEngine) and settings.engine.adapters == "merged"
    adapted = policy.lora is not None and policy.lora.quantization == "none"
    if settings.objective is not None and merged and adapted and precision.compute != torch.float32 and is_main():
        _log.warning(
            "rollout.method %s compares the policy with what its samples were drawn from, which adapters that are "
            "merged into 16 bits round away from it: set rollout.engine.init_args.adapters to apart.",
            settings.method,
        )


def _warn_of_idle(
    settings: RolloutSettings, trainer: Trainer, train: PromptSource, unlabelled: PromptSource | None
) -> None:
    """Says that shards are too large for all processes to draw about as much, and which size mends it."""
    sources = [train] if unlabelled is None or settings.unlabelled_start > 0 else [train, unlabelled]
    prompts = sum(count_indices(len(source), settings.interval) for source in sources)
    # The trainer knows how many processes there will be; the command line checks before they join.
    groups, size = max(trainer.world_size // settings.engine.group_size, 1), settings.shard_size
    share = prompts / groups
    better = ceil(share / ceil(share / size))
    most, least = most_prompts(prompts, size, groups), most_prompts(prompts, better, groups)
    if most > _UNEVEN * share and least < most and is_main():
        _log.warning(
            "rollout.shard_size %d: of the %s prompts of an iteration, one of %d processes (or groups of them) draws "
            "for %d, where an equal share is %d, and others wait for it; set rollout.shard_size to %d.",
            *(size, f"{prompts:,}", groups, most, ceil(share), better),
        )


def _warn_of_long_examples(settings: RolloutSettings, data: PolicyDataModule) -> None:
    """Says that responses may be chosen that are then too long to be trained on."""
    most = data.max_example_tokens
    prompt = data.max_prompt_tokens or 1  # one of unknown length has at least one
    longest = prompt + settings.engine.max_new_tokens
    if most is not None and longest > most and is_main():
        _log.warning(
            "data.max_example_tokens %d: a prompt%s with a response of up to %d tokens may have more. What is too "
            "long is chosen all the same, then put aside, and another example is trained on once more in its place: "
            "raise it to %s%d, or lower max_new_tokens.",
            *(most, f" of up to {prompt}" if data.max_prompt_tokens else "", settings.engine.max_new_tokens),
            *("" if data.max_prompt_tokens else "more than ", longest),
        )


def _prepare_engine(settings: RolloutSettings, policy: PolicyModule, data: PolicyDataModule) -> None:
    """Tells the engine what it will be used for, which refuses models that it cannot run."""
    _check_teacher(settings, policy)
    longest = data.max_prompt_tokens
    if longest is not None and settings.refresh is not None:
        longest += settings.engine.max_new_tokens  # step labels are made by continuing responses
    family = find_model_type(policy.model_name, trust_remote_code=policy.trust_remote_code, revision=policy.revision)
    # With the answer, prompts are longer than the data counts them.
    settings.engine.expect(family, None if settings.answer_conditioned else longest)


def _check_teacher(settings: RolloutSettings, policy: PolicyModule) -> None:
    """Refuses responses of another model where they must be the policy's."""
    if policy.engine.own_model is not None:
        raise ConfigError(
            f"model.engine is '{policy.engine.own_model}' by its address, so that the dynamics would be "
            "its own and not those of the policy that is trained: leave model.engine out of a fit."
        )
    teacher = settings.engine.own_model
    if teacher is None:
        return
    if not settings.answer_conditioned:
        need = "rollouts are drawn from the policy that is trained"
    elif settings.refresh is not None:
        need = "rollout.refresh_reward_model labels what the policy writes"
    else:
        return
    raise ConfigError(
        f"rollout.engine is '{teacher}' by its address, to which no weights can be handed, but {need}: choose "
        "TransformersEngine or VllmEngine, or take it as the teacher of a warm-up alone "
        "(rollout.answer_conditioned, with rollout.selection random)."
    )


def _check_likelihoods(settings: RolloutSettings) -> None:
    """Refuses what reads log-probabilities where the engine gives none."""
    rule, engine = settings.selector, settings.engine
    mend = "set rollout.engine.logprobs to true if its server gives any (vLLM does)"
    if engine.own_model is None:
        mend = "choose another engine"
    reads = [
        (isinstance(rule, Selector) and rule.chosen.needs_likelihood, "rollout.selection"),
        (settings.objective is not None, f"rollout.method '{settings.method}'"),
        (isinstance(settings.reward, Likelihood), "rollout.reward Likelihood"),
    ]
    for is_so, name in reads:
        if is_so and not engine.logprobs:
            raise ConfigError(
                f"{name} reads log-probabilities, which {type(engine).__name__} does not give: {mend}, or choose what "
                "reads none."
            )


def _check_chains(settings: RolloutSettings, train: PromptSource, unlabelled: PromptSource | None) -> None:
    """Refuses what reads which chains are right where the data does not know it."""
    rule = settings.selector
    reads = [
        (isinstance(rule, Selector) and rule.chosen.needs_chains, "rollout.selection"),
        (isinstance(settings.reward, Oracle), "rollout.reward Oracle"),
    ]
    for is_so, name in reads:
        for key, source in (("data.train", train), ("data.unlabelled", unlabelled)) if is_so else ():
            lacking = next((prompt.id for prompt in source or () if prompt.chain_correct("") is None), None)
            if lacking is not None:
                raise ConfigError(
                    f"{name} needs data with known right chains, which prompt '{lacking}' of {key} lacks (generated "
                    "data alone has them): choose another."
                )


def require_policy(module: LightningModule, use: str = "rollout trains") -> PolicyModule:
    """The module, if rollouts can train it, or a benchmark can score it.

    Raises:
        ConfigError: it is not a PolicyModule.
    """
    if not isinstance(module, PolicyModule):
        raise ConfigError(f"{use} a PolicyModule, but model is {type(module).__name__}; drop one of them.")
    return module


def require_data(data: LightningDataModule | None) -> PolicyDataModule:
    """The data, if rollouts can take their prompts from it.

    Raises:
        ConfigError: it is not a PolicyDataModule.
    """
    if not isinstance(data, PolicyDataModule):
        raise ConfigError(f"rollout needs data of the class PolicyDataModule, but data is {type(data).__name__}.")
    return data
