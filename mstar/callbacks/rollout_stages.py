"""What is done with the settings of a rollout: an iteration's stages, a temperature sweep, the dynamics.

Here the trainer, the policy and the data become what ``mstar.iteration`` takes, which knows nothing of Lightning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from mstar.callbacks.iteration_log import IterationLog
from mstar.callbacks.refresh import drop_reward_models
from mstar.callbacks.rollout_check import require_data, require_policy
from mstar.callbacks.rollout_progress import earliest_checkpoint
from mstar.callbacks.rollout_settings import RolloutSettings
from mstar.datamodules.policy import PolicyDataModule, tried_prompts
from mstar.distributed import from_main, is_main
from mstar.errors import ConfigError
from mstar.evaluation.dynamics import Sweep, measure_dynamics, sweep
from mstar.generation.drift import Drift, DriftCheck
from mstar.iteration.ahead import Ahead, find_ahead
from mstar.iteration.iteration import IterationResult, Stages, run_iteration
from mstar.iteration.plan import IterationPlan, IterationPrompts, iteration_indices
from mstar.iteration.shards import Earlier, claim_iteration, find_earlier, iteration_facts, warn_of_other_reward
from mstar.models.fingerprint import fingerprint_model
from mstar.modules.policy import PolicyModule
from mstar.prompts import PromptSource
from mstar.prompts.part import PromptSubset
from mstar.provenance import describe, fingerprint_prompts
from mstar.rewards import RewardHost
from mstar.selection import learns_from_all
from mstar.storage import RunDirectory, read_json, write_json
from mstar.types import Example, Prompt


@dataclass(frozen=True)
class RolloutStages:
    """The settings at work, in one hook of the trainer's."""

    settings: RolloutSettings
    trainer: Trainer
    policy: PolicyModule
    data: PolicyDataModule

    @classmethod
    def of(cls, settings: RolloutSettings, trainer: Trainer, module: LightningModule) -> RolloutStages:
        """The settings at work in a fit."""
        return cls(settings, trainer, require_policy(module), require_data(trainer.datamodule))  # type: ignore[attr-defined]

    @property
    def run(self) -> RunDirectory:
        """The run directory."""
        return RunDirectory(Path(self.trainer.default_root_dir))

    @cached_property
    def _weights(self) -> str:
        """The policy's weights, told from others; until all is drawn they stay what they are."""
        # All processes together: of a model that is split over them each has a part.
        return fingerprint_model(self.policy.policy)

    @property
    def measures_dynamics(self) -> bool:
        """Whether the dynamics are measured."""
        return self.settings.dynamics and self.data.validation is not None

    def prepare_method(self, iteration: int) -> None:
        """Resets what training does not inherit: the optimizer, and with ReST-EM and RLoop the weights too.

        Raises:
            ConfigError: the first weights are no longer those that the run began with.
        """
        method = self.settings.method
        if iteration == 1 or method not in ("iterative_rft", "rest_em", "rloop"):
            return
        if method != "iterative_rft":
            self.policy.restore_initial_weights()
            self._check_first_weights()
        self.trainer.strategy.setup_optimizers(self.trainer)

    def _check_first_weights(self) -> None:
        # The folder may have been trained into again since.
        now, plan = fingerprint_model(self.policy.policy), self.run.plan(1)
        # A run that goes on from a checkpoint of another one has no first iteration.
        if from_main(plan.exists() and read_json(plan)["policy"] != now):
            raise ConfigError(
                f"'{self.policy.model_name}' (model.model_name) has other weights than when the run began, and "
                f"rollout.method {self.settings.method} trains the first ones anew: put those back, or start a new run."
            )

    def make_drift_check(self) -> DriftCheck:
        """Prompts that every hand-over is proved with."""
        check = self.data.prompt_check()
        return DriftCheck(prompt for prompt in self.data.train if check.sift([prompt])[0])

    def hand_over(self, check: DriftCheck) -> Drift | None:
        """Hands the engine the present weights, and proves that it has them.

        Raises:
            EngineDriftError: it has not.
        """
        policy, engine = self.policy, self.policy.engine
        engine.start(policy.policy, policy.renderer)
        check.prepare(engine)
        engine.update_weights(policy.policy)
        with policy.compute_precision.context(policy.device):
            return check.measure(engine, policy.policy, policy.renderer)

    def load_reward(self, refreshed: str | None) -> None:
        """Loads the reward, if there is one, when it is first needed: the policy has been loaded before it.

        Args:
            refreshed: The MPRM that was retrained last, within the run directory; None if none was.
        """
        reward, policy = self.settings.reward, self.policy
        if reward is None:
            return
        if reward.refreshable:
            reward.refresh(None if refreshed is None else self.run.root / refreshed)
        reward.load(RewardHost(policy.device, policy.compute_precision, policy.attention, policy.trust_remote_code))

    def ready_reward(self, log: IterationLog, refreshed: str | None) -> str | None:
        """Has the reward ready for an iteration: retrained from the present policy if that is due, and loaded.

        Returns:
            The one that is now.
        """
        settings, refresh = self.settings, self.settings.refresh
        if refresh is not None and settings.reward is not None and log.iteration in refresh.iterations:
            # Its memory is the new one's.
            settings.reward.release()
            check = self.data.prompt_check()
            with log.timed("refresh"):
                made = refresh.run(
                    settings.engine, settings.grader, settings.seed, self.policy, check, self.run, log.iteration,
                    settings.reuse, self.data.num_workers,
                )  # fmt: skip
            # Not the whole path: the run may be moved.
            refreshed = made.relative_to(self.run.root).as_posix()
            log.report["refreshed"] = True
        self.load_reward(refreshed)
        return refreshed

    def find_prompts(self, iteration: int) -> IterationPrompts:
        """The prompts of an iteration, with what is done with them at the present temperature."""
        settings, data = self.settings, self.data
        unlabelled: Sequence[Prompt] = ()
        begun = iteration - 1 >= settings.unlabelled_start * (self.trainer.max_epochs or 0)
        if settings.unlabelled != "off" and data.unlabelled is not None and begun:
            unlabelled = self._next(data.unlabelled, iteration, "unlabelled")
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
        return IterationPrompts(self._next(data.train, iteration, "labelled"), unlabelled, plan)

    def _next(self, source: PromptSource, iteration: int, stage: str) -> PromptSubset:
        interval, seed = self.settings.interval, self.settings.seed
        chosen = iteration_indices(len(source), interval, iteration, seed, stage, source.mixing())
        return PromptSubset(source, chosen[: tried_prompts(self.trainer, self.data.batch_size)])

    def run_iteration(self, iteration: int, ahead: Ahead | None = None) -> IterationResult:
        """Generates, grades, scores and selects one iteration's responses, or reads those that are there.

        The engine has the present weights, and the reward, if there is one, is loaded.
        """
        settings, run, policy = self.settings, self.run, self.policy
        prompts = self.find_prompts(iteration)
        if ahead is not None:
            prompts = replace(prompts, plan=replace(prompts.plan, ahead=ahead.shards))
        selector = settings.selector_at(iteration, self.trainer.max_epochs or 0)
        reward = settings.ready_reward
        weights = self._weights
        earlier: dict[int, Earlier] = {}
        if is_main():
            generation = self.generation_facts(prompts.plan, weights)
            voting = prompts.plan.vote and len(prompts.unlabelled) > 0
            facts = iteration_facts(
                generation if ahead is None else generation | {"ahead": ahead.facts()},
                verdicts=describe(settings.grader),
                scores=reward.facts() if reward is not None and (selector.needs_reward or voting) else None,
                selection=describe(selector)
                | {"aggregation": None if reward is None else reward.aggregation, "voting": describe(settings.voting)},
                prompts=[prompts.fingerprint(number) for number in range(prompts.num_shards)],
            )
            claim_iteration(run, iteration, facts)
            if settings.refresh is None:
                warn_of_other_reward(run, iteration, facts)
            earlier = find_earlier(run, iteration, facts, settings.reuse)
            if ahead is not None:
                earlier = find_ahead(run, prompts, ahead) | earlier
        settings.engine.work_in(run.root)
        # Process 0 looks for all, so that they go the same way.
        earlier = from_main(earlier)
        stages = Stages(settings.engine, settings.grader, reward, selector, self.data.prompt_check())
        before = run.examples(iteration - 1) if settings.method == "rloop" and iteration > 1 else None
        with policy.compute_precision.context(policy.device):
            return run_iteration(prompts, stages, run, earlier, before=before)

    def generation_facts(self, plan: IterationPlan, weights: str) -> dict[str, Any]:
        """What responses depend on beside their prompts, as JSON values."""
        settings, policy = self.settings, self.policy
        facts = describe(plan) | {
            "engine": describe(settings.engine),
            "max_new_tokens": settings.engine.max_new_tokens,
            "max_prompt_tokens": self.data.max_prompt_tokens,
            "policy": weights,
            # The same weights, in another type or unpacked from four bits, may write otherwise.
            "policy_dtype": policy.dtype_name,
            "policy_compute": policy.compute_precision.name,
            "policy_quantization": "none" if policy.lora is None else policy.lora.quantization,
        }
        if plan.balance.extra_samples:
            # Who gets further samples follows from the verdicts on the first.
            facts |= {
                "extra_samples": plan.balance.extra_samples,
                "extra_for": {"hard": plan.balance.hard, "verdicts": describe(settings.grader)},
            }
        # Shards of another size have other prompts.
        left_out = ("class", "shard_size", "balance", "voting", "ahead")
        return {name: value for name, value in facts.items() if name not in left_out}

    def train_on(self, examples: Sequence[Example]) -> None:
        """Makes the epoch that is about to begin train on these examples; without any, the epoch has no steps.

        Lightning builds an epoch's loader before ``on_train_epoch_start``, and with the old epoch number when it
        resumes, so generating inside ``train_dataloader`` would run for the wrong epoch. Rebuilding the loader from
        there is the way that works (lightning 2.6; ``_combined_loader`` is private, hence the upper bound on its
        version).
        """
        self.data.set_examples(examples, self.settings.gradient.passes)
        loop = self.trainer.fit_loop
        loop._combined_loader = None
        loop.setup_data()
        if loop.max_batches == 0:
            # A loop with no batches would end the whole fit; one of unknown length just finds the epoch empty.
            loop.max_batches = float("inf")

    def drop_old(self) -> None:
        """Deletes the responses and the MPRMs that are not kept, once another iteration is trained and saved."""
        if not is_main():
            return
        earliest = earliest_checkpoint(self.trainer)
        if self.settings.keep_iterations is not None:
            last = self.trainer.current_epoch + 1 - self.settings.keep_iterations
            # Where tokens are learned from, examples are the responses again. A checkpoint within an iteration needs
            # its own.
            again = min(last, earliest - 1) if learns_from_all(self.settings.method) else 0
            self.run.drop_responses(last, again)
        drop_reward_models(self.run, earliest)

    def sweep_is_due(self, iteration: int) -> bool:
        """Whether other temperatures are tried first; for that there must be prompts, and a reward that can score."""
        settings = self.settings
        return (
            settings.controller.due(iteration)
            and self.data.validation is not None
            and settings.ready_reward is not None
        )

    def choose_temperature(self, iteration: int) -> dict[str, Any]:
        """Measures the candidate temperatures on the validation prompts and has the controller choose, also ``top_k``.

        Returns:
            What the iteration's report says of it.
        """
        settings, controller = self.settings, self.settings.controller
        found = self._sweep(iteration)
        names = {number: controller.metric_of(number) for number in controller.top_k_candidates}
        names = names or {settings.top_k: controller.metric}
        scores = {(t, number): row[name] for t, row in found.scores.items() for number, name in names.items()}
        current = (controller.current, settings.top_k)
        chosen = controller.update(scores, current, found.errors(names, current))
        kept = {} if controller.top_k is None else {"top_k": controller.top_k}
        return found.report(names, current, chosen) | kept

    def _sweep(self, iteration: int) -> Sweep:
        """What the candidates reach: measured, or read where an interrupted run has measured it.

        Measured anew, equal but for rounding, it could choose another one, for which the iteration would begin again.
        """
        settings, policy, path = self.settings, self.policy, self.run.sweep(iteration)
        controller, reward, prompts = settings.controller, settings.ready_reward, self.data.held_out()
        assert reward is not None  # noqa: S101 - no sweep is due without one
        weights = self._weights
        facts: dict[str, Any] = {}
        there: dict[str, Any] | None = None
        if is_main():
            facts = self.generation_facts(self.find_prompts(iteration).plan, weights) | {
                "candidates": describe(controller.candidates),
                "k": controller.k,
                "top_k_candidates": describe(controller.top_k_candidates),
                "verdicts": describe(settings.grader),
                "scores": reward.facts() | {"aggregation": reward.aggregation},
                "prompts": fingerprint_prompts(prompts),
            }
            there = read_json(path) if path.exists() else None
            there = there["values"] if there is not None and there["facts"] == facts else None
        if (there := from_main(there)) is not None:
            return Sweep({float(temperature): row for temperature, row in there.items()})
        with policy.compute_precision.context(policy.device):
            found = sweep(
                policy.engine, prompts, settings.grader, reward, candidates=controller.candidates,
                num_samples=settings.num_samples, k=controller.k, seed=settings.seed, stage=f"sweep/{iteration}",
                top_k=controller.top_k_candidates,
            )  # fmt: skip
        if is_main():
            write_json(path, {"facts": facts, "values": found.values})
        return found

    def measure(self, log: IterationLog) -> None:
        """Measures the dynamics of the policy that an iteration made; 0 stands for the one before the first."""
        settings, policy = self.settings, self.policy
        temperature = settings.controller.current
        with log.timed("dynamics"), policy.compute_precision.context(policy.device):
            found = measure_dynamics(
                policy.engine,
                self.data.held_out(),
                settings.grader,
                settings.ready_reward,
                num_samples=settings.num_samples,
                temperature=temperature,
                seed=settings.seed,
                stage=f"dynamics/{log.iteration}",
            )
        log.dynamics(found, temperature)
