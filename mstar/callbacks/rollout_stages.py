"""What is done with the settings of a rollout: an iteration's stages, a temperature sweep, the dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from mstar.advantages import learns_from_all
from mstar.callbacks.refresh import find_refreshed
from mstar.callbacks.rollout_settings import Method, RolloutSettings
from mstar.datamodules.policy import PolicyDataModule
from mstar.distributed import gather_lists, is_main
from mstar.evaluation.dynamics import Dynamics, Sweep, measure_dynamics, sweep
from mstar.generation import Engine
from mstar.generation.drift import Drift, DriftCheck
from mstar.iteration import IterationResult, Stages, run_iteration
from mstar.iteration_ahead import Ahead, IterationPrompts
from mstar.iteration_plan import IterationPlan
from mstar.iteration_shards import Earlier, IterationFacts, claim_iteration, find_earlier, fingerprint_shards
from mstar.models.fingerprint import fingerprint_model
from mstar.modules.policy import PolicyModule
from mstar.prompt_order import iteration_indices
from mstar.prompts import PromptSource
from mstar.prompts.part import PromptSubset
from mstar.provenance import describe
from mstar.rewards import Reward, RewardHost
from mstar.storage import RunDirectory
from mstar.types import Prompt

__all__ = [
    "choose_temperature",
    "describe_generation",
    "drop_responses",
    "find_prompts",
    "hand_over",
    "load_reward",
    "make_drift_check",
    "measure",
    "prepare_method",
    "ready_reward",
    "run_stages",
]


def prepare_method(method: Method, trainer: Trainer, policy: PolicyModule, iteration: int) -> None:
    """Resets what the method does not inherit: the optimizer, and with ReST-EM and RLoop the weights too."""
    if iteration == 1 or method not in ("iterative_rft", "rest_em", "rloop"):
        return
    if method != "iterative_rft":
        policy.restore_initial_weights()
    trainer.strategy.setup_optimizers(trainer)


def make_drift_check(data: PolicyDataModule) -> DriftCheck:
    """Prompts that every hand-over is proved with."""
    check = data.prompt_check()
    return DriftCheck(prompt for prompt in data.train if check.sift([prompt])[0])


def hand_over(engine: Engine, policy: PolicyModule, check: DriftCheck) -> Drift | None:
    """Hands the engine the present weights, and proves that it has them.

    Raises:
        EngineDriftError: it has not.
    """
    engine.start(policy.policy, policy.renderer)
    check.prepare(engine)
    engine.update_weights(policy.policy)
    with policy.compute_precision.context(policy.device):
        return check.measure(engine, policy.policy, policy.renderer)


def load_reward(reward: Reward | None, policy: PolicyModule, run: RunDirectory, refreshed: str | None) -> None:
    """Loads the reward when it is first needed: the policy has been loaded before it.

    Args:
        reward: The reward; None if there is none.
        policy: The policy beside which it works.
        run: The run directory.
        refreshed: The MPRM that was retrained last, within the run directory; None if none was.
    """
    if reward is None:
        return
    if refreshed is not None:
        reward.refresh(find_refreshed(run, refreshed))
    reward.load(RewardHost(policy.device, policy.compute_precision, policy.attention, policy.trust_remote_code))


def ready_reward(
    settings: RolloutSettings,
    policy: PolicyModule,
    data: PolicyDataModule,
    run: RunDirectory,
    iteration: int,
    refreshed: str | None,
) -> str | None:
    """Has the reward ready for an iteration: retrained from the present policy if that is due, and loaded.

    Args:
        settings: The rollout's settings.
        policy: The policy.
        data: Where the prompts come from.
        run: The run directory.
        iteration: The iteration.
        refreshed: The MPRM that was retrained last, within the run directory; None if none was.

    Returns:
        The one that is now.
    """
    refresh, reward = settings.refresh, settings.reward
    if refresh is not None and reward is not None and iteration in refresh.iterations:
        # Its memory is the new one's.
        reward.release()
        stages_used = (settings.engine, settings.grader, settings.seed)
        made = refresh.run(*stages_used, policy, data.prompt_check(), run, iteration)
        # Not the whole path: the run may be moved.
        refreshed = made.relative_to(run.root).as_posix()
    load_reward(reward, policy, run, refreshed)
    return refreshed


def drop_responses(settings: RolloutSettings, trainer: Trainer) -> None:
    """Deletes the responses of iterations that are not kept, once another one is trained."""
    if settings.keep_iterations is not None and is_main():
        run, last = RunDirectory(Path(trainer.default_root_dir)), trainer.current_epoch + 1
        run.drop_responses(last - settings.keep_iterations)


def run_stages(
    settings: RolloutSettings,
    trainer: Trainer,
    policy: PolicyModule,
    data: PolicyDataModule,
    iteration: int,
    ahead: Ahead | None = None,
) -> IterationResult:
    """Generates, grades, scores and selects one iteration's responses, or reads those that are there.

    Args:
        settings: The settings; the engine has the present weights, and the reward, if there is one, is loaded.
        trainer: Its run directory gets the files.
        policy: The present policy.
        data: Where the prompts come from.
        iteration: The iteration's number, from 1.
        ahead: What of it was drawn while the iteration before trained; None if nothing was.
    """
    run = RunDirectory(Path(trainer.default_root_dir))
    source = find_prompts(settings, trainer, data, iteration)
    if ahead is not None:
        source = replace(source, plan=replace(source.plan, ahead=ahead.shards))
    prompts, unlabelled, plan = source.prompts, source.unlabelled, source.plan
    selector = settings.selector_at(iteration, trainer.max_epochs or 0)
    reward = settings.ready_reward
    voting = plan.vote and len(unlabelled) > 0
    # All of them: of a model that is split over the processes each has a part.
    fingerprint = fingerprint_model(policy.policy)
    earlier: dict[int, Earlier] = {}
    if is_main():
        generation = describe_generation(settings, policy, data, plan, fingerprint)
        facts = IterationFacts(
            generation=generation if ahead is None else generation | {"ahead": ahead.facts()},
            verdicts=describe(settings.grader),
            scores=reward.facts() if reward is not None and settings.uses_reward(voting) else None,
            selection=describe(selector)
            | {"aggregation": None if reward is None else reward.aggregation, "voting": describe(settings.voting)},
            prompts=fingerprint_shards(prompts, unlabelled, plan.shard_size),
        )
        claim_iteration(run, iteration, facts)
        earlier = find_earlier(run, iteration, facts, None if settings.reuse is None else Path(settings.reuse))
        if ahead is not None:
            earlier = source.find(run, ahead) | earlier
    settings.engine.work_in(run.root)
    # Process 0 looks for all, so that they go the same way.
    [earlier] = gather_lists([earlier] if is_main() else [])
    stages = Stages(settings.engine, settings.grader, reward, selector, data.prompt_check())
    with policy.compute_precision.context(policy.device):
        before = run.examples(iteration - 1) if settings.method == "rloop" and iteration > 1 else None
        return run_iteration(prompts, unlabelled, plan, stages, run, earlier, before=before)


def find_prompts(
    settings: RolloutSettings, trainer: Trainer, data: PolicyDataModule, iteration: int
) -> IterationPrompts:
    """The prompts of an iteration, with what is done with them at the present temperature.

    Args:
        settings: The settings.
        trainer: Says after how many iterations unlabelled prompts are mixed in.
        data: Where the prompts come from.
        iteration: The iteration's number, from 1.
    """
    unlabelled: Sequence[Prompt] = ()
    begun = iteration - 1 >= settings.unlabelled_start * (trainer.max_epochs or 0)
    if settings.unlabelled != "off" and data.unlabelled is not None and begun:
        unlabelled = _next(settings, data.unlabelled, iteration, "unlabelled")
    plan = IterationPlan(
        iteration=iteration,
        seed=settings.seed,
        num_samples=settings.num_samples,
        temperature=settings.controller.current,
        answer_conditioned=settings.answer_conditioned,
        vote=settings.unlabelled == "voting",
        voting=settings.voting,
        shard_size=settings.shard_size,
        balance=settings.selector.balance,
        keep_tokens=learns_from_all(settings.method),
    )
    return IterationPrompts(_next(settings, data.train, iteration, "labelled"), unlabelled, plan)


def describe_generation(
    settings: RolloutSettings, policy: PolicyModule, data: PolicyDataModule, plan: IterationPlan, fingerprint: str
) -> dict[str, Any]:
    """What responses depend on beside their prompts, as JSON values.

    Args:
        settings: The settings.
        policy: The policy.
        data: Says how long a prompt may be.
        plan: What the iteration does.
        fingerprint: That of the weights that draw them.
    """
    generation = describe(plan) | {
        "engine": describe(settings.engine),
        "max_new_tokens": settings.engine.max_new_tokens,
        "max_prompt_tokens": data.max_prompt_tokens,
        "policy": fingerprint,
        # The same weights, in another type or unpacked from four bits, may write otherwise.
        "policy_dtype": policy.dtype_name,
        "policy_compute": policy.compute_precision.name,
        "policy_quantization": "none" if policy.lora is None else policy.lora.quantization,
    }
    if plan.balance.extra_samples:
        # Who gets further samples follows from the verdicts on the first.
        generation |= {
            "extra_samples": plan.balance.extra_samples,
            "extra_for": {"hard": plan.balance.hard, "verdicts": describe(settings.grader)},
        }
    # Shards of another size have other prompts; plans without tokens are as those of earlier versions.
    left_out = ("class", "shard_size", "balance", "voting", "ahead", *(() if plan.keep_tokens else ("keep_tokens",)))
    return {name: value for name, value in generation.items() if name not in left_out}


def _next(settings: RolloutSettings, source: PromptSource, iteration: int, stage: str) -> PromptSubset:
    interval, seed = settings.interval, settings.seed
    return PromptSubset(source, iteration_indices(len(source), interval, iteration, seed, stage, source.mixing()))


def choose_temperature(
    settings: RolloutSettings, policy: PolicyModule, data: PolicyDataModule, iteration: int
) -> tuple[Sweep, float, str]:
    """Measures the candidate temperatures on the validation prompts and has the controller choose, also ``top_k``.

    Returns:
        What each of them reached, the temperature that was chosen, and the metric that it was chosen by.
    """
    controller, reward = settings.controller, settings.ready_reward
    assert reward is not None  # noqa: S101 - no sweep is due without one
    with policy.compute_precision.context(policy.device):
        found = sweep(
            policy.engine,
            data.held_out(),
            settings.grader,
            reward,
            candidates=controller.candidates,
            num_samples=settings.num_samples,
            k=controller.k,
            seed=settings.seed,
            stage=f"sweep/{iteration}",
            top_k=controller.top_k_candidates,
        )
    if controller.top_k_candidates:
        names = {number: controller.metric_of(number) for number in controller.top_k_candidates}
        pairs = {(t, number): row[name] for t, row in found.scores.items() for number, name in names.items()}
        current = (controller.current, settings.top_k)
        chosen, top_k = controller.update_with_top_k(pairs, current, found.paired_errors(names, current))
        return found, chosen, names.get(top_k, controller.metric)
    metric = controller.metric
    means = {temperature: score[metric] for temperature, score in found.scores.items()}
    chosen = controller.update(means, found.errors(metric, controller.current))
    return found, chosen, metric


def measure(settings: RolloutSettings, policy: PolicyModule, data: PolicyDataModule, iteration: int) -> Dynamics:
    """The dynamics of the policy that an iteration made; 0 stands for the one before the first."""
    with policy.compute_precision.context(policy.device):
        return measure_dynamics(
            policy.engine,
            data.held_out(),
            settings.grader,
            settings.ready_reward,
            num_samples=settings.num_samples,
            temperature=settings.controller.current,
            seed=settings.seed,
            stage=f"dynamics/{iteration}",
        )
