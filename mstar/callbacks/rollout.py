"""The rollout callback: every epoch it makes the policy's training data anew, by way of mstar/iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from mstar.callbacks.checkpoint import write_iteration_checkpoint
from mstar.callbacks.iteration_log import IterationLog, log_dashboard, tell_of_judge
from mstar.callbacks.refresh import RewardModelRefresh
from mstar.callbacks.rollout_ahead import Overlap
from mstar.callbacks.rollout_check import check_rollout, require_data, require_policy
from mstar.callbacks.rollout_progress import RolloutProgress, check_resumable
from mstar.callbacks.rollout_settings import Method, RolloutSettings, Unlabelled, choose_reward, choose_rule
from mstar.callbacks.rollout_stages import RolloutStages
from mstar.callbacks.watchers import call_watchers
from mstar.distributed import world_size
from mstar.generation import Engine, TransformersEngine, derive_seed
from mstar.generation.drift import DriftCheck
from mstar.grading import AnswerGrader, Grader
from mstar.iteration.decline import check_something_kept
from mstar.modules.policy import PolicyModule
from mstar.rewards import MPRM, Aggregation, Reward
from mstar.selection import Balance, PolicyGradient, RuleName, SelectionRule, Selector, StepRewards, Voting
from mstar.storage import ExampleFile, RunDirectory
from mstar.temperature import FixedTemperature, TemperatureController
from mstar.trainer.fit_end import is_over


class RolloutCallback(Callback):
    """Self-evolving training: an epoch is an iteration, a whole ``fit`` is a whole run.

    At the start of every epoch the present policy samples ``num_samples`` responses for the next ``interval`` of the
    prompts; wrong ones are dropped, the right ones are selected by reward, and the epoch trains on what was kept.
    Because it is one ``fit``, weights, optimizer and schedule are inherited (M-STaR: continuous self-evolving).

    Args:
        num_samples: Responses drawn for a prompt (M-STaR: K = 16).
        interval: Fraction of the prompts in one iteration (M-STaR: 0.25).
        selection: Which right responses are kept: top_k and threshold by reward, consistency (the half with the higher
            reward), random, all, likelihood (by the policy's own log-probability), mixed (by reward and likelihood),
            oracle (generated data only), or the class path of a rule of one's own.
        top_k: Responses kept of a prompt at most (M-STaR: 2); a rule by its class path has its own.
        threshold: Process reward above which ``threshold`` keeps a response.
        final_threshold: The threshold of iteration ``trainer.max_epochs``, to which it moves evenly; none keeps it.
        balance: Learns less from easy prompts and more from hard ones.
        deduplicate: Whether copies of a response of one prompt count once.
        method: continuous inherits everything; iterative_rft resets the optimizer and schedule at every iteration;
            rest_em also trains the initial weights anew, and rloop (after RLoop, arXiv 2511.04285) trains them on all
            that has been kept so far; in both, the policy that came of it draws the next responses. These imitate what
            ``selection`` keeps. nft, grpo and reinforce_rej inherit everything and learn from every response that
            ended, right or wrong; ``selection``, ``top_k``, ``threshold`` and ``deduplicate`` are then not used.
        policy_gradient: How nft, grpo and reinforce_rej learn; none takes the defaults.
        step_rewards: How nft, grpo and reinforce_rej use scores of steps: outcome (not at all), drop, decoupled or
            consistency (``mstar.selection.advantages.Advantages``).
        temperature: Sampling temperature: a number, or a controller such as AdaptiveTemperature.
        engine: Draws the responses, those of validate, test and predict too; none is the Transformers engine. A model
            by address (``OpenAIEngine``) is a teacher for ``answer_conditioned`` alone, and measures nothing.
        grader: Decides whether a final answer is right.
        reward: Scores responses: mstar.rewards.MPRM, Likelihood, Oracle, or a class of one's own; top_k and threshold
            need one.
        aggregation: What makes one number of the scores of a response's steps: min, mean, product, last (the answer's
            step), or min_without_answer.
        reward_model: Folder of an exported MPRM: short for ``reward`` with the class MPRM, and so are the four below.
        reward_batch_size: Responses that the MPRM scores at the same time; halved where the memory is not enough.
        reward_offload: Whether the MPRM is on the device only while it scores, which costs about a second a shard;
            by default, it is where the device is a GPU and the MPRM is not quantised.
        reward_quantization: nf4 loads the MPRM's language model in 4 bits; needs the extra ``qlora``.
        reward_dtype: Type of the MPRM's weights while it scores: float32, bfloat16, float16, or auto (16 bits on CUDA,
            else the type of the policy's).
        refresh_reward_model: Retrain the MPRM on the present policy before some iterations; none keeps it fixed.
        answer_conditioned: Show the policy the gold answer while it samples, not in training (M-STaR: warm-up).
        unlabelled: Use of the unlabelled prompts: off, voting (pseudo answer by weighted vote) or oracle (their own).
        unlabelled_start: Fraction of ``trainer.max_epochs`` after which they are mixed in (M-STaR: T_mixin).
        voting: When the vote on an unlabelled prompt gives it an answer.
        dynamics: Whether the dynamics are measured on the validation prompts after every iteration.
        shard_size: Prompts that are generated and written as one unit; fewer where many GPUs would else be idle.
        overlap_shards: How many of an iteration's first shards are drawn while the iteration before it trains, by the
            weights that it drew with: they are stale by one iteration. For an engine by address alone
            (``VllmServerEngine``), whose servers would be idle.
        keep_iterations: Of how many iterations, the latest, all responses stay on disk; of earlier ones the report and
            the kept examples do, but for nft, grpo and reinforce_rej, where they are all responses. None keeps all.
        seed: Seed of the sampling; by default the run's ``seed_everything``.
        reuse: Folder of another run, or one of several: responses, verdicts and scores in it, and the step labels of
            ``refresh_reward_model``, are read instead of made again where they depend on the same, e.g. in the first
            iteration of a run that differs in its ``selection`` alone.

    Raises:
        ConfigError: a value cannot work, or two contradict each other.
    """

    def __init__(
        self,
        num_samples: int = 16,
        interval: float = 0.25,
        selection: RuleName | SelectionRule = "top_k",
        top_k: int = 2,
        threshold: float = 0.5,
        final_threshold: float | None = None,
        balance: Balance = Balance(),  # noqa: B008 - frozen, so sharing it is safe
        deduplicate: bool = True,
        method: Method = "continuous",
        policy_gradient: PolicyGradient | None = None,
        step_rewards: StepRewards = "outcome",
        temperature: float | TemperatureController = 1.0,
        engine: Engine | None = None,
        grader: Grader | None = None,
        reward: Reward | None = None,
        aggregation: Aggregation = "min",
        reward_model: str | None = None,
        reward_batch_size: int = 64,
        reward_offload: bool | None = None,
        reward_quantization: Literal["none", "nf4"] | None = None,
        reward_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        refresh_reward_model: RewardModelRefresh | None = None,
        answer_conditioned: bool = False,
        unlabelled: Unlabelled | Literal[False] = "off",
        unlabelled_start: float = 0.0,
        voting: Voting = Voting(),  # noqa: B008 - frozen, so sharing it is safe
        dynamics: bool = True,
        shard_size: int = 256,
        overlap_shards: int = 0,
        keep_iterations: int | None = None,
        seed: int | None = None,
        reuse: str | None = None,
    ) -> None:
        super().__init__()
        short = MPRM(reward_model, reward_batch_size, reward_offload, reward_quantization or "none", reward_dtype)
        reward = choose_reward(reward, short, aggregation, waits=refresh_reward_model is not None)
        seed = torch.initial_seed() % 2**31 if seed is None else seed
        self.settings = RolloutSettings(
            num_samples=num_samples,
            interval=interval,
            selector=choose_rule(method, policy_gradient, step_rewards, balance)
            or Selector(selection, top_k, threshold, deduplicate, seed, final_threshold, balance),
            method=method,
            gradient=policy_gradient or PolicyGradient(),
            controller=temperature if isinstance(temperature, TemperatureController) else FixedTemperature(temperature),
            engine=engine or TransformersEngine(),
            grader=grader or AnswerGrader(),
            reward=reward,
            refresh=refresh_reward_model,
            answer_conditioned=answer_conditioned,
            unlabelled=unlabelled or "off",  # which YAML reads as false
            unlabelled_start=unlabelled_start,
            voting=voting,
            dynamics=dynamics,
            shard_size=shard_size,
            overlap_shards=overlap_shards,
            keep_iterations=keep_iterations,
            seed=seed,
            reuse=reuse,
        )
        self._progress = RolloutProgress()
        self._overlap = Overlap(self.settings, self._progress)
        self._log: IterationLog | None = None
        self._drift: DriftCheck | None = None
        self._checked = False
        self._resumed_at = 0
        self._first = self.state_dict()

    def check(self, trainer: Trainer, module: LightningModule, data: LightningDataModule | None) -> None:
        """Checks that the pieces fit together; the command line does so before anything is written.

        Raises:
            ConfigError: two settings contradict each other, or the MPRM's folder is missing or lacks a part.
            DataError: a prompt has no answer, or two have the same id.
        """
        if self._checked:
            return
        policy, usable = require_policy(module), require_data(data)
        self._lend_engine(policy)
        check_rollout(self.settings, trainer, policy, usable)
        self._overlap.announce()
        self._checked = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Has validate, test and predict draw with the engine of the rollouts, with bars where the trainer has one."""
        if trainer.progress_bar_callback is None:
            self.settings.hide_progress()
        policy = require_policy(pl_module)
        policy.objective = self.settings.objective
        self._lend_engine(policy)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepares the fit; of the strategies that shard weights, some load the checkpoint only after this."""
        if self._progress.iteration is not None and trainer.ckpt_path is None and trainer.current_epoch == 0:
            # What it came to in another trainer.
            self.load_state_dict(self._first)
            self._overlap, self._drift, self._checked = Overlap(self.settings, self._progress), None, False
            self._log = None
        data = require_data(trainer.datamodule)  # type: ignore[attr-defined]
        self.check(trainer, pl_module, data)
        log_dashboard(trainer)
        if not self._progress.in_training:
            # Lightning builds a first loader before the first iteration has made any data.
            data.set_examples(data.placeholder())
        if not self._progress.in_training or is_over(trainer, self._resumed_at):
            # The run may have been killed while they were measured; after the last iteration, no later hook is called.
            self._end_iteration(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on within an iteration, if that is where the checkpoint was written; no epoch begins then.

        After one between an iteration and its dynamics, the callbacks that watch these are called now.
        """
        if self._progress.in_training and self._progress.iteration is not None:
            stages = RolloutStages.of(self.settings, trainer, pl_module)
            self._log = IterationLog.resumed(stages.run, trainer, self._progress.iteration)
            # Those of the policy that a limit ended the training of, if one did.
            self._log.forget_dynamics()
            self._log.recall()
            self._progress.go_on_training()
            self._overlap.take_up(stages)
        else:
            call_watchers(trainer, pl_module, self._progress, self._log)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs the iteration's stages and swaps the training data."""
        settings, progress, iteration = self.settings, self._progress, trainer.current_epoch + 1
        stages = RolloutStages.of(settings, trainer, pl_module)
        ahead = self._overlap.finish(stages, iteration)
        log = self._log = IterationLog(stages.run, trainer, iteration, self._log)
        # What is drawn at random in an iteration follows from (seed, iteration), so that resuming repeats it.
        torch.manual_seed(derive_seed(settings.seed, "generate", iteration))
        self._sync(stages, log)
        earlier, progress.refreshed = progress.refreshed, stages.ready_reward(log, progress.refreshed)
        if progress.refreshed != earlier:
            self._sync(stages, log)  # it rested while the MPRM was trained
        if iteration == 1 and stages.measures_dynamics:
            before = IterationLog(stages.run, trainer, 0)
            stages.measure(before)
            before.write()
        if stages.sweep_is_due(iteration):
            with log.timed("sweep"):
                log.swept(stages.choose_temperature(iteration))
        result = stages.run_iteration(iteration, ahead)
        self._overlap.clear(stages.run, iteration)
        stages.policy.engine.rest()
        # Not before: what it goes back to trains, but the responses are those of the policy that came of it last.
        stages.prepare_method(iteration)
        log.iteration_done(result)
        stages.train_on(result.examples)
        torch.manual_seed(derive_seed(settings.seed, "train", iteration))
        self._overlap.begin(stages, iteration)
        progress.begin_training(iteration)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes in that the iteration is trained, and measures its dynamics for the callbacks that end the epoch next.

        They take a while, in which nothing that was trained may be lost, so its checkpoint is written before them.
        """
        # Lightning would keep the last step's gradients, as large as the weights, through the next rollouts.
        pl_module.zero_grad()
        assert self._log is not None  # noqa: S101 - it is made when the epoch starts
        self._log.trained(self._progress.training_seconds)
        self._log.write()
        self._progress.in_training = False
        # The rest is in the iteration's report, from which it is recalled.
        metrics = trainer.callback_metrics.items()
        self._progress.unwatched = {name: float(value) for name, value in metrics if name in ("train/loss", "train/lr")}
        write_iteration_checkpoint(trainer, pl_module)
        RolloutStages.of(self.settings, trainer, pl_module).drop_old()
        self._end_iteration(trainer, pl_module, self._log)
        self._progress.unwatched = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Has a run that had nothing to train on end with an error, before anything is exported.

        A run that was killed in the dynamics of its last iteration has come here without training.

        Raises:
            DataError: no iteration kept a response.
        """
        call_watchers(trainer, pl_module, self._progress, self._log)
        tell_of_judge(self.settings.grader)
        run = RunDirectory(Path(trainer.default_root_dir))
        check_something_kept(run, self._progress.iteration or 0, self.settings.engine.max_new_tokens)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Releases the engine."""
        self._overlap.give_up()
        self.settings.engine.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Releases the engine, for whoever tries again in this process."""
        # Several end anyway, and may wait for each other in vain; but what is elsewhere would stay there.
        self._overlap.give_up()
        if world_size() == 1 or self.settings.engine.elsewhere:
            self.settings.engine.close()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on from here; primitives only."""
        own = {"temperature": self.settings.controller.state_dict(), "seed": self.settings.seed}
        return own | self._progress.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        if self._progress.load_state_dict(state_dict):
            self.settings.controller.load_state_dict(state_dict["temperature"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Puts back the data of the iteration that the checkpoint was written in; the weights are back already.

        Raises:
            ConfigError: the checkpoint was made with another seed, or is another run's.
        """
        state = checkpoint["callbacks"].get(self.state_key)
        if trainer.state.fn != TrainerFn.FITTING or state is None:
            return
        run = RunDirectory(Path(trainer.default_root_dir))
        check_resumable(state, self.settings.seed, run)
        self._resumed_at = checkpoint["global_step"]
        if state["in_training"]:
            data = require_data(trainer.datamodule)  # type: ignore[attr-defined]
            data.set_examples(ExampleFile(run.examples(state["iteration"])), self.settings.gradient.passes)
        late = trainer.strategy.restore_checkpoint_after_setup  # so that on_fit_start had no iteration to end yet
        if late and (not state["in_training"] or is_over(trainer, self._resumed_at)):
            self.load_state_dict(state)
            self._end_iteration(trainer, pl_module)

    def _lend_engine(self, policy: PolicyModule) -> None:
        # A teacher only draws: what is measured is the policy.
        if self.settings.engine.own_model is None and policy.engine is not self.settings.engine:
            policy.use_engine(self.settings.engine, "rollout.engine")

    def _end_iteration(self, trainer: Trainer, module: LightningModule, log: IterationLog | None = None) -> None:
        """Ends the iteration that was trained last: measures its dynamics, unless its report has them."""
        iteration = self._progress.iteration
        if iteration is None:
            return
        stages = RolloutStages.of(self.settings, trainer, module)
        self._overlap.finish(stages, iteration + 1)
        log = self._log = log or IterationLog.resumed(stages.run, trainer, iteration)
        if stages.measures_dynamics and "dynamics" not in log.report:
            self._sync(stages, log)
            stages.load_reward(self._progress.refreshed)
            stages.measure(log)
            stages.policy.engine.rest()
            log.write()
        log.announce(refreshes=self.settings.refresh is not None)

    def _sync(self, stages: RolloutStages, log: IterationLog) -> None:
        """Hands the engine the present weights, and proves that it has them."""
        self._drift = self._drift or stages.make_drift_check()
        log.drifted(stages.hand_over(self._drift))
