"""What a rollout callback has done with its settings: an iteration's stages, a temperature sweep, the dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer

from mstar.callbacks.training_data import claim_iteration, fingerprint_prompts, make_facts
from mstar.datamodules.policy import PolicyDataModule
from mstar.distributed import is_main, wait_for_all
from mstar.evaluation.dynamics import Dynamics, measure_dynamics, sweep
from mstar.iteration import IterationPlan, IterationResult, Stages, iteration_indices, run_iteration
from mstar.models.fingerprint import fingerprint_model
from mstar.models.precision import name_of
from mstar.modules.policy import PolicyModule
from mstar.prompts import PromptSource
from mstar.prompts.subset import PromptSubset
from mstar.rewards.process import ProcessReward
from mstar.storage import RunDirectory
from mstar.types import Prompt

if TYPE_CHECKING:
    from mstar.callbacks.rollout import RolloutCallback

__all__ = ["choose_temperature", "measure", "run_stages"]


def run_stages(
    rollout: RolloutCallback, trainer: Trainer, policy: PolicyModule, data: PolicyDataModule, iteration: int
) -> IterationResult:
    """Generates, grades, scores and selects one iteration's responses, or reads those that are there.

    Args:
        rollout: The settings; its engine has the present weights.
        trainer: Its run directory gets the files.
        policy: The present policy.
        data: Where the prompts come from.
        iteration: The iteration's number, from 1.
    """
    run = RunDirectory(Path(trainer.default_root_dir))
    prompts = _next(rollout, data.train, iteration, "labelled")
    unlabelled: Sequence[Prompt] = ()
    begun = iteration - 1 >= rollout.unlabelled_start * (trainer.max_epochs or 0)
    if rollout.unlabelled != "off" and data.unlabelled is not None and begun:
        unlabelled = _next(rollout, data.unlabelled, iteration, "unlabelled")
    plan = IterationPlan(
        iteration=iteration,
        seed=rollout.seed,
        num_samples=rollout.num_samples,
        temperature=rollout.controller.current,
        answer_conditioned=rollout.answer_conditioned,
        vote=rollout.unlabelled == "voting",
        shard_size=rollout.shard_size,
    )
    # All of them: of a model that is split over the processes each has a part.
    fingerprint = fingerprint_model(policy.policy)
    if is_main():
        facts = {
            "plan": repr(plan),
            "selector": repr(rollout.selector),
            **make_facts(rollout.engine, rollout.grader),
            "max_prompt_tokens": data.max_prompt_tokens,
            "prompts": fingerprint_prompts(chain(prompts, unlabelled)),
            "reward_model": None if rollout.reward is None else fingerprint_model(rollout.reward.scorer),
            "policy": fingerprint,
            # The same weights, in another type or unpacked from four bits, may write otherwise.
            "policy_dtype": policy.dtype_name,
            "policy_compute": policy.compute_precision.name,
            "reward_dtype": None if rollout.reward is None else name_of(rollout.reward_precision(policy).weights),
            "policy_quantization": "none" if policy.lora is None else policy.lora.quantization,
        }
        claim_iteration(run, iteration, facts)
    wait_for_all()
    stages = Stages(rollout.engine, rollout.grader, rollout.reward, rollout.selector, data.prompt_check())
    with policy.compute_precision.context(policy.device):
        return run_iteration(prompts, unlabelled, plan, stages, run)


def _next(rollout: RolloutCallback, source: PromptSource, iteration: int, stage: str) -> PromptSubset:
    return PromptSubset(source, iteration_indices(len(source), rollout.interval, iteration, rollout.seed, stage))


def choose_temperature(
    rollout: RolloutCallback, policy: PolicyModule, reward: ProcessReward, data: PolicyDataModule, iteration: int
) -> tuple[dict[float, dict[str, float]], float, str]:
    """Measures the candidate temperatures on the validation prompts and takes the best.

    Returns:
        The scores by temperature and name, the temperature that was chosen, and the name that it was chosen by.
    """
    controller = rollout.controller
    with policy.compute_precision.context(policy.device):
        scores = sweep(
            rollout.engine,
            data.held_out(),
            rollout.grader,
            reward,
            candidates=controller.candidates,
            num_samples=rollout.num_samples,
            k=controller.k,
            seed=rollout.seed,
            stage=f"sweep/{iteration}",
        )
    metric = f"reward_pass@{controller.k}"
    chosen = controller.update({temperature: score[metric] for temperature, score in scores.items()})
    return scores, chosen, metric


def measure(rollout: RolloutCallback, policy: PolicyModule, data: PolicyDataModule, iteration: int) -> Dynamics:
    """The dynamics of the policy that an iteration made; 0 stands for the one before the first."""
    with policy.compute_precision.context(policy.device):
        return measure_dynamics(
            rollout.engine,
            data.held_out(),
            rollout.grader,
            rollout.reward,
            num_samples=rollout.num_samples,
            temperature=rollout.controller.current,
            seed=rollout.seed,
            stage=f"dynamics/{iteration}",
        )
