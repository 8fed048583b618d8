"""Training the multimodal process reward model on step labels.

Shapes: B rows (responses), N the steps of all rows in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from mstar.datamodules.step_labels import StepLabelBatch, StepLabelDataModule
from mstar.distributed import gather_lists, is_main
from mstar.errors import ConfigError
from mstar.metrics import auc, expected_calibration_error, within_group_auc
from mstar.models.attention import announce, kernel_of
from mstar.models.backbone import FreezablePart, load_model, load_renderer, load_stored, prepare_training
from mstar.models.fingerprint import fingerprint_model
from mstar.models.lora import LoraSettings
from mstar.models.precision import Precision
from mstar.models.prefix import is_recurrent
from mstar.models.sharding import complete_gradients, empty_loss, gather_state, is_sharded, shard
from mstar.models.step_head import StepLogits
from mstar.models.step_scorer import SharedInputs, StepScorer
from mstar.modules.backbone_checkpoint import (
    check_kind,
    check_trained,
    describe_backbone,
    fingerprint_frozen,
    keep_trained,
    require_savable,
    write_provenance,
)
from mstar.modules.optimization import configure
from mstar.modules.run_precision import precision_of
from mstar.modules.step_losses import pairwise_loss, step_loss
from mstar.modules.unused_weights import expect_unused_weights
from mstar.rendering import Renderer

__all__ = ["MPRMModule"]

_UNKNOWN: Final = -1


class MPRMModule(LightningModule):
    """A multimodal process reward model (M-STaR: MPRM): a policy with a head that scores every reasoning step.

    The loss is the binary cross-entropy of the steps plus a pairwise term within prompts: re-ranking compares responses
    to one prompt, and the cross-entropy alone is largely met by learning how hard a prompt is.

    Args:
        model_name: The policy to start from: a Hugging Face folder or model id.
        lr: Learning rate.
        head_lr: Learning rate of the head, which starts from random weights; none for ``lr``.
        optimizer: The optimizer, by class path and arguments.
        lr_scheduler: The schedule, stepped once an optimizer step; none for a constant rate.
        labels: Learn the share of right continuations (soft), or whether there was one (hard).
        pairwise_weight: Weight of the pairwise term; 0 switches it off.
        pairwise_margin: Two responses are compared if their mean step labels differ by more than this.
        class_balance: Whether right and wrong steps weigh the same in the cross-entropy.
        step_logprob_features: Whether the head sees how likely the model finds the step's tokens.
        head_size: Width of the head's hidden layer.
        dtype: Type of the stored weights: float32, bfloat16 or float16; the head is always float32.
        attention: Attention kernel: auto (flash-attention where it is installed and 16 bits are computed in, else the
            model's default, mostly sdpa), or sdpa, eager, flash_attention_2, flash_attention_4.
        freeze: Parts that are not trained: vision, projector, language.
        share_prompts: Encode image and prompt once for all the responses to a prompt in a batch, in training too. Gives
            the same loss for less work; ignored with gradient checkpointing, which cannot keep what is shared, and for
            models with recurrent layers (Qwen3.5), which overwrite it.
        gradient_checkpointing: Recompute activations in the backward pass, to save memory.
        seed: Seed of the head's first weights, and of the adapters'.
        lora: Train low-rank adapters in place of the weights; none trains the weights. Checkpoints then hold the
            adapters alone, an export the merged weights.
        trust_remote_code: Run Python code that comes with the model (MiniCPM-V 2.5, Phi-3.5-vision). Read it first.
        revision: Commit, tag or branch of a model id; with trust_remote_code it must be a commit.

    Raises:
        ConfigError: ``pairwise_weight`` or ``pairwise_margin`` is negative, or ``head_lr`` is not positive.
    """

    def __init__(
        self,
        model_name: str,
        lr: float = 1e-6,
        head_lr: float | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        labels: Literal["soft", "hard"] = "soft",
        pairwise_weight: float = 0.5,
        pairwise_margin: float = 0.15,
        class_balance: bool = False,
        step_logprob_features: bool = True,
        head_size: int = 64,
        dtype: str = "float32",
        attention: str | None = "auto",
        freeze: list[FreezablePart] | None = None,
        share_prompts: bool = True,
        gradient_checkpointing: bool = False,
        seed: int = 0,
        lora: LoraSettings | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("pairwise_weight", pairwise_weight), ("pairwise_margin", pairwise_margin)):
            if value < 0:
                raise ConfigError(f"model.{name} is {value}, but it must not be negative.")
        if head_lr is not None and head_lr <= 0:
            raise ConfigError(f"model.head_lr is {head_lr}, but a learning rate must be positive.")
        self.model_name = model_name
        self.lr = lr
        self.head_lr = head_lr
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        self.label_kind = labels
        self.pairwise_weight = pairwise_weight
        self.pairwise_margin = pairwise_margin
        self.class_balance = class_balance
        self.step_logprob_features = step_logprob_features
        self.head_size = head_size
        self.dtype_name = dtype
        self.attention = attention
        self.freeze_parts = list(freeze or [])
        self.share_prompts = share_prompts and not gradient_checkpointing
        self.gradient_checkpointing = gradient_checkpointing
        self.seed = seed
        self.lora = lora
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        # With adapters a checkpoint has them alone; what it must have is checked in on_load_checkpoint.
        self.strict_loading = lora is None
        self._frozen_weights: str | None = None
        self.scorer: Any = None
        self._renderer: Renderer | None = None
        self._validated: list[dict[str, list[float]]] = []

    @property
    def renderer(self) -> Renderer:
        """The renderer of the model's processor; loaded when it is first needed."""
        if self._renderer is None:
            self.configure_model()
            self._renderer = load_renderer(
                self.model_name,
                self.scorer.backbone,
                trust_remote_code=self.trust_remote_code,
                revision=self.revision,
            )
        return self._renderer

    @property
    def compute_precision(self) -> Precision:
        """What the backbone computes in; the head always does in float32."""
        return precision_of(self._trainer, self.dtype_name)

    def configure_model(self) -> None:
        """Loads the backbone and adds the head, once; splits them over the processes if the strategy asks for that."""
        if self.scorer is None:
            self.scorer = self._build(sharded=self.device_mesh is not None)
            self.share_prompts = self.share_prompts and not is_recurrent(self.scorer.backbone)
            if self.lora is not None:
                self._frozen_weights = fingerprint_frozen(self.scorer)
        if self.device_mesh is not None and not is_sharded(self.scorer):
            shard(
                self.scorer,
                self.device_mesh["data_parallel"],
                backbone=self.scorer.backbone,
                exact=[self.scorer.head],
                mixed_precision=self.trainer.precision == "bf16-mixed",
                widen=self.dtype_name == "float32",
            )

    def _build(self, sharded: bool = False) -> StepScorer:
        """Loads what is trained, straight to the device, or for ``shard`` to take over."""
        settings: dict[str, Any] = {
            "dtype": self.dtype_name,
            "device": self.device,
            "compute": self.compute_precision.compute,
            "attention": self.attention,
            "trust_remote_code": self.trust_remote_code,
            "revision": self.revision,
        }
        quantization = "none" if self.lora is None else self.lora.quantization
        if sharded and quantization == "none":
            backbone: Any = load_stored(self.model_name, **settings, widen=self.lora is None)
        else:
            backbone = load_model(self.model_name, **settings, quantization=quantization)
        prepare_training(backbone, self.freeze_parts, self.lora, self.gradient_checkpointing, self.seed)
        scorer = StepScorer(
            backbone, step_logprob_features=self.step_logprob_features, head_size=self.head_size, seed=self.seed
        )
        # Transformers loads models in evaluation mode, and Lightning keeps the mode it finds.
        return scorer.train()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and its schedule, in optimizer steps."""
        return configure(
            self.parameters(), self.lr, cast(OptimizerCallable, self._optimizer), self.lr_scheduler_factory
        )

    def _optimizer(self, parameters: Iterable[Parameter], lr: float) -> Optimizer:
        head = {id(parameter) for parameter in self.scorer.head.parameters()}
        groups: list[dict[str, Any]] = [
            {"params": []},
            {"params": [], "lr": lr if self.head_lr is None else self.head_lr},
        ]
        for parameter in parameters:
            groups[id(parameter) in head]["params"].append(parameter)
        return self.optimizer_factory(groups, lr=lr)  # type: ignore[call-arg]

    def setup(self, stage: str) -> None:
        """Has DDP expect weights that a batch does not use."""
        expect_unused_weights(self.trainer)

    def on_fit_start(self) -> None:
        """Makes sure that there is something to learn, and says what the fit computes in.

        Raises:
            DataError: all step labels are of one value.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, StepLabelDataModule):
            data.require_two_kinds()
        announce("MPRM", self.compute_precision, kernel_of(self.scorer.backbone))

    def forward(self, batch: StepLabelBatch) -> StepLogits:
        """The logits of all steps of the batch."""
        logits: StepLogits = self.scorer(batch.responses)
        return logits

    def losses(self, steps: StepLogits, batch: StepLabelBatch) -> tuple[Tensor, Tensor]:
        """The cross-entropy of the steps and the (unweighted) pairwise term."""
        labels_N = batch.soft_N if self.label_kind == "soft" else batch.hard_N
        cross_entropy = step_loss(steps.logits_N, labels_N, self.class_balance)
        return cross_entropy, pairwise_loss(steps, labels_N, batch.group_B, self.pairwise_margin)

    def training_step(self, batch: StepLabelBatch, batch_idx: int) -> Tensor:
        """One step of training."""
        cross_entropy, pairwise = self.losses(self(batch), batch)
        loss = cross_entropy + self.pairwise_weight * pairwise
        responses = batch.responses
        inputs = responses.prompts if isinstance(responses, SharedInputs) else responses.inputs
        if not inputs.extras and is_sharded(self.scorer):
            loss = loss + empty_loss(self.scorer)
        rows = len(batch.group_B)
        self.log("train/loss", loss, batch_size=rows, prog_bar=True)
        self.log("train/step_loss", cross_entropy, batch_size=rows)
        self.log("train/pairwise_loss", pairwise, batch_size=rows)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=rows)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Keeps the optimizer's state complete where weights are sharded."""
        complete_gradients(self.scorer)

    def validation_step(self, batch: StepLabelBatch, batch_idx: int) -> None:
        """Scores a batch; the metrics are computed over the whole validation set."""
        steps = self(batch)
        cross_entropy, pairwise = self.losses(steps, batch)
        rows = len(batch.group_B)
        loss = cross_entropy + self.pairwise_weight * pairwise
        self.log("val/loss", loss, batch_size=rows, prog_bar=True, sync_dist=True)
        self._validated.append(
            {
                "probability": steps.logits_N.sigmoid().tolist(),
                "soft": batch.soft_N.tolist(),
                "score": steps.minimum(rows).tolist(),
                "group": batch.group_B.tolist(),
                "correct": batch.correct_B.tolist(),
                "chain": batch.chain_B.tolist(),
                "logprob": batch.logprob_B.tolist(),
            }
        )

    def on_validation_epoch_end(self) -> None:
        """Logs accuracy and calibration of the steps, and how well responses are ranked."""
        parts, self._validated = gather_lists(self._validated), []
        merged = {name: [value for part in parts for value in part[name]] for name in parts[0]} if parts else {}
        if merged:
            for name, value in validation_metrics(merged).items():
                self.log(name, value, prog_bar=name == "mprm/auc_within", sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what an export needs to rebuild the scorer; refuses what is not finite."""
        require_savable(self)
        # Primitives only: the checkpoint stays loadable with weights_only=True.
        checkpoint["mstar"] = {
            "kind": "mprm",
            "step_logprob_features": self.step_logprob_features,
            "head_size": self.head_size,
        } | describe_backbone(self.model_name, self.dtype_name, self.lora, self._frozen_weights, self.revision)
        if self.lora is not None:
            keep_trained(checkpoint, self, self.scorer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is this module's, and fits the adapters."""
        check_kind(checkpoint, "mprm")
        self.configure_model()
        check_trained(checkpoint, self, self.lora, self._frozen_weights)

    def export(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Writes the MPRM as a folder that ``ProcessReward.load`` reads; the main process does, as with a policy.

        Args:
            folder: The folder.
            dtype: Type of the backbone's weights in it; by default that of the stored ones. The head is exact.
        """
        scorer = self.scorer
        state = None
        if is_sharded(scorer):
            state = gather_state(scorer, dtype if self.lora is None else None, exact=["head."])
        weights = fingerprint_model(scorer)
        if is_main():
            scorer.save(folder, self.renderer, state=state, dtype=dtype)
            write_provenance(folder, "mprm", self.model_name, weights)


def validation_metrics(validated: dict[str, list[float]]) -> dict[str, float]:
    """The metrics of scored responses; one that cannot be computed (a class is missing) is left out.

    The truth of a response is whether its whole chain is right where that is known, else whether its answer is.
    ``auc`` pools all prompts and also rewards knowing how hard a prompt is; ``auc_within`` compares responses to one
    prompt; ``auc_within_correct`` only those with the right answer, which is what re-ranking has to tell apart.
    The same two with the policy's own log-probability in place of the MPRM show what the MPRM adds.

    Args:
        validated: Lists by name: ``probability`` and ``soft`` a step; ``score``, ``group``, ``correct``, ``chain`` and
            ``logprob`` a response.
    """
    probability, soft = validated["probability"], validated["soft"]
    agree = sum((p > 0.5) == (y > 0.5) for p, y in zip(probability, soft, strict=True))
    metrics: dict[str, float | None] = {
        "mprm/step_accuracy": agree / len(soft),
        "mprm/ece": expected_calibration_error(probability, soft),
    }
    chains, correct, groups = validated["chain"], validated["correct"], validated["group"]
    truth = [bool(c if chain == _UNKNOWN else chain) for chain, c in zip(chains, correct, strict=True)]
    metrics["mprm/auc"] = auc(validated["score"], truth)
    # Among right answers only a known chain tells responses apart.
    right = [i for i, (chain, c) in enumerate(zip(chains, correct, strict=True)) if c and chain != _UNKNOWN]
    for name, scores in (("", validated["score"]), ("likelihood_", validated["logprob"])):
        metrics[f"mprm/{name}auc_within"] = within_group_auc(scores, truth, groups).value
        metrics[f"mprm/{name}auc_within_correct"] = within_group_auc(
            [scores[i] for i in right], [truth[i] for i in right], [groups[i] for i in right]
        ).value
    return {name: value for name, value in metrics.items() if value is not None}
