"""The rollout callback: every epoch it regenerates and reward-filters the policy's training data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from mstar.callbacks.iteration_log import IterationLog, log_dashboard
from mstar.callbacks.refresh import RewardModelRefresh
from mstar.callbacks.training_data import check_prompts, claim_iteration, fingerprint_prompts, replace_training_data
from mstar.datamodules.policy import PolicyDataModule
from mstar.distributed import is_main, wait_for_all
from mstar.errors import ConfigError
from mstar.evaluation.dynamics import Dynamics, measure_dynamics, sweep
from mstar.generation import Engine, TransformersEngine, derive_seed
from mstar.grading import AnswerGrader, Grader
from mstar.iteration import IterationPlan, IterationResult, Stages, iteration_indices, run_iteration
from mstar.models.fingerprint import fingerprint_model
from mstar.modules.policy import PolicyModule
from mstar.prompts import PromptSource
from mstar.rewards.process import ProcessReward
from mstar.selection import SelectionRule, Selector
from mstar.storage import RunDirectory
from mstar.temperature import FixedTemperature, TemperatureController
from mstar.types import Prompt

__all__ = ["RolloutCallback"]


class RolloutCallback(Callback):
    """Self-evolving training: an epoch is an iteration, a whole ``fit`` is a whole run.

    At the start of every epoch the present policy samples ``num_samples`` responses for the next ``interval`` of the
    prompts; wrong ones are dropped, the right ones are selected by reward, and the epoch trains on what was kept.
    Because it is one ``fit``, weights, optimizer and schedule are inherited (M-STaR: continuous self-evolving).

    Args:
        num_samples: Responses drawn for a prompt (M-STaR: K = 16).
        interval: Fraction of the prompts in one iteration (M-STaR: 0.25).
        selection: Which right responses are kept: top_k and threshold by process reward, random, all, likelihood (by
            the policy's own log-probability) or oracle (generated data only).
        top_k: Responses kept of a prompt at most (M-STaR: 2).
        threshold: Process reward above which ``threshold`` keeps a response.
        deduplicate: Whether copies of a response of one prompt count once.
        method: continuous inherits everything; iterative_rft resets the optimizer and schedule at every iteration;
            rest_em also goes back to the initial weights.
        temperature: Sampling temperature: a number, or a controller such as AdaptiveTemperature.
        engine: Draws the responses; by default the Transformers engine.
        grader: Decides whether a final answer is right.
        reward_model: Folder of an exported MPRM; needed by top_k and threshold.
        reward_batch_size: Responses that the MPRM scores at the same time.
        refresh_reward_model: Retrain the MPRM on the present policy before some iterations; none keeps it fixed.
        answer_conditioned: Show the policy the gold answer while it samples (M-STaR: warm-up); it is not shown in
            training.
        unlabelled: Use of the unlabelled prompts: off, voting (pseudo answer by weighted vote) or oracle (their own
            answer).
        unlabelled_start: Fraction of the training after which they are mixed in (M-STaR: T_mixin).
        dynamics: Whether the dynamics are measured on the validation prompts after every iteration.
        shard_size: Prompts that are generated and written as one unit.
        seed: Seed of the sampling; by default the run's ``seed_everything``.

    Raises:
        ConfigError: a value cannot work, or two contradict each other.
    """

    def __init__(
        self,
        num_samples: int = 16,
        interval: float = 0.25,
        selection: Literal["top_k", "threshold", "random", "all", "likelihood", "oracle"] = "top_k",
        top_k: int = 2,
        threshold: float = 0.5,
        deduplicate: bool = True,
        method: Literal["continuous", "iterative_rft", "rest_em"] = "continuous",
        temperature: float | TemperatureController = 1.0,
        engine: Engine | None = None,
        grader: Grader | None = None,
        reward_model: str | None = None,
        reward_batch_size: int = 64,
        refresh_reward_model: RewardModelRefresh | None = None,
        answer_conditioned: bool = False,
        unlabelled: Literal["off", "voting", "oracle"] = "off",
        unlabelled_start: float = 0.0,
        dynamics: bool = True,
        shard_size: int = 256,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if num_samples < 1:
            raise ConfigError(f"rollout.num_samples is {num_samples}, but K must be at least 1; raise it.")
        if not 0 < interval <= 1:
            raise ConfigError(f"rollout.interval is {interval}, but it is a fraction of the prompts in (0, 1].")
        if not 0 <= unlabelled_start <= 1:
            raise ConfigError(f"rollout.unlabelled_start is {unlabelled_start}, but it is a fraction in [0, 1].")
        if shard_size < 1:
            raise ConfigError(f"rollout.shard_size is {shard_size}, but a shard needs at least 1 prompt.")
        self.seed = torch.initial_seed() % 2**31 if seed is None else seed
        self.selector = Selector(SelectionRule(selection), top_k, threshold, deduplicate, self.seed)
        if self.selector.needs_reward_model and reward_model is None:
            raise ConfigError(
                f"rollout.selection '{selection}' ranks by an MPRM, but rollout.reward_model is not set: give the "
                "folder of an exported MPRM, or choose random, all, likelihood or oracle."
            )
        self.num_samples = num_samples
        self.interval = interval
        self.method = method
        self.controller = (
            temperature if isinstance(temperature, TemperatureController) else FixedTemperature(temperature)
        )
        self.engine = engine or TransformersEngine()
        self.grader = grader or AnswerGrader()
        self.reward_model = reward_model
        self.reward_batch_size = reward_batch_size
        self.refresh = refresh_reward_model
        self.answer_conditioned = answer_conditioned
        self.unlabelled = unlabelled
        self.unlabelled_start = unlabelled_start
        self.dynamics = dynamics
        self.shard_size = shard_size
        self._reward: ProcessReward | None = None
        self._reward_folder: str | None = None
        self._refreshed: str | None = None
        self._log: IterationLog | None = None
        self._training_began = 0.0
        self._checked = False
        self._checkpoint_seed: int | None = None

    def check(self, trainer: Trainer, module: LightningModule, data: LightningDataModule | None) -> None:
        """Checks that the pieces fit together; the command line does so before anything is written.

        Raises:
            ConfigError: two settings contradict each other, or the MPRM's folder is missing.
            DataError: a prompt has no answer, or two have the same id.
        """
        if self._checked:
            return
        _policy(module)
        data = _data(data)
        if self.unlabelled != "off" and data.unlabelled is None:
            raise ConfigError(f"rollout.unlabelled is '{self.unlabelled}', but data.unlabelled is not set.")
        if self.unlabelled_start > 0 and (trainer.max_epochs is None or trainer.max_epochs < 0):
            raise ConfigError("rollout.unlabelled_start is a fraction of trainer.max_epochs, which is not set.")
        adaptive = self.controller.candidates != (self.controller.current,)
        if adaptive:
            if data.validation is None:
                raise ConfigError("an adaptive rollout.temperature is chosen on data.validation, which is not set.")
            if self.reward_model is None:
                raise ConfigError("an adaptive rollout.temperature needs rollout.reward_model for its Reward-Pass@k.")
        self._load_reward_model(self.reward_model, module.device)
        check_prompts(data.train, "data.train", self.grader)
        if data.validation is not None and (self.dynamics or adaptive):
            check_prompts(data.validation, "data.validation", self.grader)
        if self.unlabelled == "oracle" and data.unlabelled is not None:
            check_prompts(data.unlabelled, "data.unlabelled", self.grader)
        self._checked = True

    # Lightning's hooks, in the order in which they run.

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepares the fit."""
        if self._checkpoint_seed not in (None, self.seed):
            raise ConfigError(
                f"rollout.seed is {self.seed}, but the checkpoint was made with {self._checkpoint_seed}: the run would "
                "not go on as it began; set the seed back, or start a new run."
            )
        self.check(trainer, pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        log_dashboard(trainer, self.num_samples)
        # Lightning builds a first loader before the first iteration has made any data.
        data = _data(trainer.datamodule)  # type: ignore[attr-defined]
        data.set_examples(data.placeholder())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the iteration's stages and swaps the training data."""
        policy, run = _policy(pl_module), RunDirectory(Path(trainer.default_root_dir))
        data = _data(trainer.datamodule)  # type: ignore[attr-defined]
        iteration = trainer.current_epoch + 1
        log = self._log = IterationLog(run, trainer, iteration)
        self._prepare_method(trainer, policy, iteration)
        # What is drawn at random in an iteration follows from (seed, iteration), so that resuming repeats it.
        torch.manual_seed(derive_seed(self.seed, "generate", iteration))
        self.engine.start(policy.policy, policy.renderer)
        self.engine.update_weights(policy.policy)
        self._refresh_reward_model(policy, run, iteration)
        if iteration == 1 and self.dynamics and data.validation is not None:
            before = IterationLog(run, trainer, 0)
            before.dynamics(self._measure(data.validation, iteration=0), self.controller.current)
            before.write()
        if self.controller.due(iteration) and self._reward is not None and data.validation is not None:
            self._choose_temperature(log, self._reward, data.validation)
        result = self._run(trainer, policy, run, iteration)
        log.iteration_done(result)
        replace_training_data(trainer, result.examples)
        torch.manual_seed(derive_seed(self.seed, "train", iteration))
        self._training_began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the dynamics of the policy that the iteration made."""
        data = _data(trainer.datamodule)  # type: ignore[attr-defined]
        assert self._log is not None  # noqa: S101 - it is made when the epoch starts
        self._log.trained(time.perf_counter() - self._training_began)
        if self.dynamics and data.validation is not None:
            measured = self._measure(data.validation, iteration=trainer.current_epoch + 1)
            self._log.dynamics(measured, self.controller.current)
        self._log.write()
        self._log.announce()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Releases the engine."""
        self.engine.close()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on from here; primitives only."""
        return {
            "temperature": self.controller.state_dict(),
            "seed": self.seed,
            "refreshed_reward_model": self._refreshed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._checkpoint_seed = state_dict["seed"]
        self.controller.load_state_dict(state_dict["temperature"])
        self._refreshed = state_dict["refreshed_reward_model"]

    # The parts of an iteration.

    def _prepare_method(self, trainer: Trainer, policy: PolicyModule, iteration: int) -> None:
        if self.method == "continuous" or iteration == 1:
            return
        if self.method == "rest_em":
            policy.restore_initial_weights()
        trainer.strategy.setup_optimizers(trainer)

    def _refresh_reward_model(self, policy: PolicyModule, run: RunDirectory, iteration: int) -> None:
        if self.refresh is not None and iteration in self.refresh.iterations:
            self._refreshed = str(self.refresh.run(policy, self.engine, self.grader, run, iteration, self.seed))
        self._load_reward_model(self._refreshed or self.reward_model, policy.device)

    def _load_reward_model(self, folder: str | None, device: torch.device) -> None:
        if folder is not None and folder != self._reward_folder:
            self._reward = ProcessReward.load(folder, device, self.reward_batch_size)
            self._reward_folder = folder
        if self._reward is not None:
            self._reward.scorer.to(device)

    def _choose_temperature(self, log: IterationLog, reward: ProcessReward, validation: PromptSource) -> None:
        scores = sweep(
            self.engine,
            list(validation),
            self.grader,
            reward,
            candidates=self.controller.candidates,
            num_samples=self.num_samples,
            k=self.controller.k,
            seed=self.seed,
            stage=f"sweep/{log.iteration}",
        )
        metric = f"reward_pass@{self.controller.k}"
        chosen = self.controller.update({temperature: score[metric] for temperature, score in scores.items()})
        log.swept(scores, chosen, metric)

    def _run(self, trainer: Trainer, policy: PolicyModule, run: RunDirectory, iteration: int) -> IterationResult:
        data = _data(trainer.datamodule)  # type: ignore[attr-defined]
        prompts = self._next(data.train, iteration, "labelled")
        unlabelled: list[Prompt] = []
        begun = iteration - 1 >= self.unlabelled_start * (trainer.max_epochs or 0)
        if self.unlabelled != "off" and data.unlabelled is not None and begun:
            unlabelled = self._next(data.unlabelled, iteration, "unlabelled")
        plan = IterationPlan(
            iteration=iteration,
            seed=self.seed,
            num_samples=self.num_samples,
            temperature=self.controller.current,
            answer_conditioned=self.answer_conditioned,
            vote=self.unlabelled == "voting",
            shard_size=self.shard_size,
        )
        if is_main():
            facts = {
                "plan": repr(plan),
                "selector": repr(self.selector),
                "engine": type(self.engine).__name__,
                "max_new_tokens": self.engine.max_new_tokens,
                "grader": type(self.grader).__name__,
                "prompts": fingerprint_prompts([*prompts, *unlabelled]),
                "reward_model": None if self._reward is None else fingerprint_model(self._reward.scorer),
                "policy": fingerprint_model(policy.policy),
            }
            claim_iteration(run, iteration, facts)
        wait_for_all()
        stages = Stages(self.engine, self.grader, self._reward, self.selector)
        return run_iteration(prompts, unlabelled, plan, stages, run)

    def _next(self, source: PromptSource, iteration: int, stage: str) -> list[Prompt]:
        return [source[i] for i in iteration_indices(len(source), self.interval, iteration, self.seed, stage)]

    def _measure(self, validation: PromptSource, iteration: int) -> Dynamics:
        return measure_dynamics(
            self.engine,
            list(validation),
            self.grader,
            self._reward,
            num_samples=self.num_samples,
            temperature=self.controller.current,
            seed=self.seed,
            stage=f"dynamics/{iteration}",
        )


def _policy(module: LightningModule) -> PolicyModule:
    if not isinstance(module, PolicyModule):
        raise ConfigError(f"rollout trains a PolicyModule, but model is a {type(module).__name__}; drop one of them.")
    return module


def _data(data: LightningDataModule | None) -> PolicyDataModule:
    if not isinstance(data, PolicyDataModule):
        raise ConfigError(f"rollout needs data of the class PolicyDataModule, but data is a {type(data).__name__}.")
    return data
