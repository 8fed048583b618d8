"""What a rollout callback has done with its settings: an iteration's stages, a temperature sweep, the dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer

from mstar.datamodules.policy import PolicyDataModule
from mstar.distributed import gather_lists, is_main
from mstar.evaluation.dynamics import Dynamics, measure_dynamics, sweep
from mstar.iteration import IterationPlan, IterationResult, Stages, iteration_indices, run_iteration
from mstar.iteration_shards import Earlier, IterationFacts, claim_iteration, find_earlier, fingerprint_shards
from mstar.models.fingerprint import fingerprint_model
from mstar.models.precision import name_of
from mstar.modules.policy import PolicyModule
from mstar.prompts import PromptSource
from mstar.prompts.subset import PromptSubset
from mstar.provenance import describe
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
    earlier: dict[int, Earlier] = {}
    if is_main():
        generation = describe(plan) | {
            "engine": describe(rollout.engine),
            "max_new_tokens": rollout.engine.max_new_tokens,
            "max_prompt_tokens": data.max_prompt_tokens,
            "policy": fingerprint,
            # The same weights, in another type or unpacked from four bits, may write otherwise.
            "policy_dtype": policy.dtype_name,
            "policy_compute": policy.compute_precision.name,
            "policy_quantization": "none" if policy.lora is None else policy.lora.quantization,
        }
        facts = IterationFacts(
            # Shards of another size have other prompts.
            generation={name: value for name, value in generation.items() if name not in ("class", "shard_size")},
            verdicts=describe(rollout.grader),
            scores=_score_facts(rollout, policy, unlabelled),
            selection=describe(rollout.selector),
            prompts=fingerprint_shards(prompts, unlabelled, plan.shard_size),
        )
        claim_iteration(run, iteration, facts)
        earlier = find_earlier(run, iteration, facts, None if rollout.reuse is None else Path(rollout.reuse))
    # Process 0 looks for all, so that they go the same way.
    [earlier] = gather_lists([earlier] if is_main() else [])
    stages = Stages(rollout.engine, rollout.grader, rollout.reward, rollout.selector, data.prompt_check())
    with policy.compute_precision.context(policy.device):
        return run_iteration(prompts, unlabelled, plan, stages, run, earlier)


def _score_facts(rollout: RolloutCallback, policy: PolicyModule, unlabelled: Sequence[Prompt]) -> dict[str, Any] | None:
    voting = rollout.unlabelled == "voting" and len(unlabelled) > 0
    if rollout.reward is None or not (rollout.selector.needs_reward_model or voting):
        return None
    return {
        "reward_model": fingerprint_model(rollout.reward.scorer),
        "dtype": name_of(rollout.reward_precision(policy).weights),
    }


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
