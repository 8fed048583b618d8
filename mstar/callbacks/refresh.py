"""Retraining the MPRM within a run: the policy moves away from the one that the MPRM was trained on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from mstar.annotation import AnnotationSettings, ContrastSettings, annotate
from mstar.atomic import writing
from mstar.callbacks.export import export_atomically
from mstar.callbacks.finite_steps import FiniteSteps
from mstar.callbacks.progress_bar import TrainingBar
from mstar.callbacks.signals import StopOnSignal
from mstar.datamodules.step_labels import StepLabelDataModule
from mstar.distributed import from_main, is_main, wait_for_all
from mstar.errors import ConfigError, require_least, require_positive
from mstar.generation import Engine, derive_seed
from mstar.grading import Grader
from mstar.models.fingerprint import fingerprint_model
from mstar.models.precision import name_of
from mstar.modules.mprm import MPRMModule
from mstar.modules.policy import PolicyModule
from mstar.prompts import PromptSource
from mstar.prompts.prompt_check import PromptCheck
from mstar.provenance import fingerprint, fingerprint_prompts
from mstar.storage import RunDirectory, find_in_runs, read_json
from mstar.trainer.checkpoint_files import replace as replace_folder

_log = logging.getLogger(__name__)


class RewardModelRefresh:
    """Annotates new responses of the present policy and trains a new MPRM from it, before some iterations.

    The paper keeps its MPRM fixed; this is an extension. Labels and MPRM are kept in the run directory, so that an
    interrupted refresh goes on where it stopped; the labels stay, and an MPRM as long as there is a checkpoint of an
    iteration that it scored. Several processes share the annotation; one of them trains the MPRM, on its device alone,
    in the run's precision and with the policy's gradient checkpointing, and the others wait.

    Args:
        iterations: The iterations, counted from 1, before which the MPRM is retrained.
        prompts: Prompts to annotate; with another split than the run's own, the MPRM sees no prompt twice.
        annotation: How the step labels are made.
        epochs: Passes over the step labels.
        batch_size: Responses in a training batch.
        lr: Learning rate of the MPRM; none for 1e-6, and 1e-5 where the policy has adapters (``model.lora``), which the
            MPRM then has too.
        head_lr: Learning rate of its head, which starts from random weights; none for ``lr``.
        optimizer: Its optimizer.
        lr_scheduler: Its schedule.
        labels: Learn the share of right continuations (soft), or whether there was one (hard).
        pairwise_weight: Weight of the pairwise loss term.
        pairwise_margin: Two responses are compared if their mean step labels differ by more than this.
        class_balance: Whether right and wrong steps weigh the same, over all labels.
        step_logprob_features: Whether the head sees how likely the model finds a step's tokens.
        head_size: Width of the head's hidden layer.
        contrast: Train on right chains with a wrong value in them, too; none trains on the labels alone.

    Raises:
        ConfigError: an iteration is below 1, or another number is out of its range.
    """

    def __init__(
        self,
        iterations: list[int],
        prompts: PromptSource,
        annotation: AnnotationSettings = AnnotationSettings(),  # noqa: B008 - frozen, so sharing it is safe
        epochs: int = 1,
        batch_size: int = 64,
        lr: float | None = None,
        head_lr: float | None = 1e-4,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        labels: Literal["soft", "hard"] = "soft",
        pairwise_weight: float = 0.5,
        pairwise_margin: float = 0.15,
        class_balance: bool = False,
        step_logprob_features: bool = True,
        head_size: int = 64,
        contrast: ContrastSettings | None = None,
    ) -> None:
        if any(iteration < 1 for iteration in iterations):
            raise ConfigError(f"refresh_reward_model.iterations is {iterations}, but iterations count from 1.")
        require_least("refresh_reward_model.", epochs=epochs, head_size=head_size)
        require_least("refresh_reward_model.", 0, pairwise_weight=pairwise_weight, pairwise_margin=pairwise_margin)
        require_positive("refresh_reward_model.", head_lr=head_lr)
        self.iterations = frozenset(iterations)
        self.prompts = prompts
        self.annotation = annotation
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.contrast = contrast
        # What the MPRM's module is given as it is.
        self._module: dict[str, Any] = {
            "head_lr": head_lr,
            "optimizer": optimizer,
            "lr_scheduler": lr_scheduler,
            "labels": labels,
            "pairwise_weight": pairwise_weight,
            "pairwise_margin": pairwise_margin,
            "class_balance": class_balance,
            "step_logprob_features": step_logprob_features,
            "head_size": head_size,
        }

    def rate(self, policy: PolicyModule) -> float:
        """The learning rate of an MPRM that is made from this policy."""
        # Ten times that of all weights, as configs/overlays/lora.yaml has it.
        usual = 1e-6 if policy.lora is None else 1e-5
        return usual if self.lr is None else self.lr

    def run(
        self,
        engine: Engine,
        grader: Grader,
        seed: int,
        policy: PolicyModule,
        check: PromptCheck,
        run: RunDirectory,
        iteration: int,
        reuse: str | Path | None = None,
        num_workers: int = 0,
    ) -> Path:
        """Makes the MPRM for an iteration, or finds the one that is there already.

        Args:
            engine: The rollout's engine, started, with the policy's weights. Where it shows no progress, nothing does.
                It rests once the labels are there, and wants the weights again before it draws.
            check: Decides which prompts and responses are too long or cannot be shown to the policy.
            reuse: Folder of another run, or one of several, whose step labels are taken where they depend on the same.
            num_workers: Processes that make the MPRM's batches; 0 for none.

        Returns:
            The MPRM's folder.
        """
        weights = fingerprint_model(policy.policy)
        settings = replace(self.annotation, seed=derive_seed(seed, "refresh", iteration))
        precision = policy.compute_precision
        training = (self.epochs, self.batch_size, self.rate(policy), self._module)
        facts = (
            *(weights, str(precision), settings, fingerprint_prompts(self.prompts), training, self.contrast),
            *(check.max_prompt_tokens, check.max_example_tokens, seed),
            *(engine, engine.max_new_tokens, grader, policy.lora, *policy.freeze_parts),
        )
        folder = run.reward_model(iteration, fingerprint(*facts))
        model = folder / "model"
        # Process 0 looks for all, so that they go the same way; on NFS, others would go on not to see it for a minute.
        if from_main(is_main() and model.is_dir()):
            return model
        with precision.context(policy.device):
            made = annotate(
                self.prompts, engine, grader, settings, folder / "labels",
                policy=weights, computed_in=str(precision), check=check,
                earlier=find_in_runs(reuse, "mprm/*/labels"), progress=engine.progress,
            )  # fmt: skip
        # Its memory is for the MPRM's training.
        engine.rest()
        start = folder / "policy"
        with writing(start):
            policy.export(start)
        torch.manual_seed(derive_seed(seed, "refresh/train", iteration))
        # One process trains, whatever their number, so that the MPRM does not depend on it; the others wait.
        if is_main():
            _log.info(
                "iteration %d: the MPRM is trained anew, on %s labelled responses", iteration, f"{made.num_responses:,}"
            )
            self._train(policy, folder, check, seed, engine.progress, num_workers)
            # NFS keeps a file that is still open somewhere, under another name.
            shutil.rmtree(start, ignore_errors=True)
        wait_for_all()
        return model

    def _train(
        self, policy: PolicyModule, folder: Path, check: PromptCheck, seed: int, progress: bool, num_workers: int
    ) -> None:
        """Makes ``model`` in a folder, of the ``policy`` and the ``labels`` in it."""
        module = MPRMModule(
            str(folder / "policy"),
            lr=self.rate(policy),
            **self._module,
            dtype=name_of(policy.compute_precision.weights),
            attention=policy.attention,
            gradient_checkpointing=policy.gradient_checkpointing,
            seed=seed,
            lora=policy.lora,
            freeze=policy.freeze_parts,
            trust_remote_code=policy.trust_remote_code,
        )
        data = StepLabelDataModule(
            str(folder / "labels"),
            self.prompts,
            self.batch_size,
            validation_share=0.0,
            max_example_tokens=check.max_example_tokens,
            max_bad_share=check.max_bad_share,
            seed=seed,
            num_workers=num_workers,
            contrast=self.contrast,
        )
        with _unannounced():
            trainer = Trainer(
                accelerator=policy.device.type,
                devices=1 if policy.device.index is None else [policy.device.index],
                max_epochs=self.epochs,
                # A policy that is converted whole (bf16-true) says so by its weights: the MPRM's head stays in float32.
                precision=policy.trainer.precision if policy.compute_precision.mixed else "32-true",
                gradient_clip_val=1.0,
                logger=False,
                enable_progress_bar=progress,
                callbacks=[*([TrainingBar()] if progress else ()), StopOnSignal(requeues=False), FiniteSteps()],
                default_root_dir=folder,
                enable_checkpointing=False,
                enable_model_summary=False,
            )
            trainer.fit(module, data)
        export_atomically(module, folder / "model")


def drop_reward_models(run: RunDirectory, earliest: int) -> None:
    """Deletes the retrained MPRMs, without their labels, that no iteration from ``earliest`` on has used."""
    begins = ((folder, folder.name.partition("-")[0]) for folder in run.root.glob("mprm/[0-9]*-*"))
    folders = {folder: int(number) for folder, number in begins if number.isdecimal()}

    def is_used(number: int) -> bool:
        # Not by its name alone: an MPRM may be there that the run, as it was gone on with, has not used.
        report = run.report(number)
        return report.exists() and bool(read_json(report).get("refreshed"))

    numbers = sorted({number for number in folders.values() if number <= earliest}, reverse=True)
    first = next(filter(is_used, numbers), 0)
    for folder, number in folders.items():
        if number < first:
            # Put aside first: a part of it would be taken for the whole.
            if (folder / "model").is_dir():
                _log.info(
                    "'%s' is deleted: no checkpoint needs that MPRM any more (keep_all keeps all)", folder / "model"
                )
                replace_folder(folder / "model", folder / ".model")
            shutil.rmtree(folder / ".model", ignore_errors=True)


@contextmanager
def _unannounced() -> Iterator[None]:
    """Without Lightning's news: that a fit has begun, and is over, would be taken for the fit around it."""
    lightning = logging.getLogger("lightning.pytorch")
    before = lightning.level
    lightning.setLevel(logging.WARNING)
    try:
        yield
    finally:
        lightning.setLevel(before)
