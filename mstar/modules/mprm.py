"""Training the multimodal process reward model on step labels.

Shapes: B rows (responses), N the steps of all rows in order.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Final, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from mstar.datamodules.samplers import PromptBatchSampler
from mstar.datamodules.step_label_batches import StepLabelBatch, TermCounter
from mstar.datamodules.step_labels import StepLabelDataModule
from mstar.distributed import gather_lists
from mstar.errors import ConfigError, require_least, require_positive
from mstar.metrics import auc, expected_calibration_error, within_group_auc
from mstar.models.attention import announce, kernel_of
from mstar.models.families import FreezablePart
from mstar.models.lora import LoraSettings
from mstar.models.prefix import is_recurrent
from mstar.models.step_head import StepLogits
from mstar.models.step_scorer import StepScorer
from mstar.modules.backbone_module import BackboneModule
from mstar.modules.optimization import configure
from mstar.modules.step_losses import LabelKind, count_terms, pairwise_loss, step_loss

_log = logging.getLogger(__name__)

_UNKNOWN: Final = -1


class MPRMModule(BackboneModule):
    """A multimodal process reward model (M-STaR: MPRM): a policy with a head that scores every reasoning step.

    The loss is the binary cross-entropy of the steps plus a pairwise term within prompts: re-ranking compares responses
    to one prompt, and the cross-entropy alone is largely met by learning how hard a prompt is. Both are means over an
    optimizer step, whatever batches of whatever processes it is made of; but only responses of one batch are compared.

    Args:
        model_name: The policy to start from: a Hugging Face folder or model id.
        lr: Learning rate.
        head_lr: Learning rate of the head, which starts from random weights; none for ``lr``.
        optimizer: The optimizer, by class path and arguments.
        lr_scheduler: The schedule, stepped once an optimizer step; none for a constant rate.
        labels: Learn the share of right continuations (soft), or whether there was one (hard).
        pairwise_weight: Weight of the pairwise term; 0 switches it off. Batches of one response have none.
        pairwise_margin: Two responses are compared if their mean step labels differ by more than this.
        class_balance: Whether right and wrong steps weigh the same in the cross-entropy, over all labels to train on.
        step_logprob_features: Whether the head sees how likely the model finds the step's tokens.
        head_size: Width of the head's hidden layer.
        dtype: Type of the stored weights: float32, bfloat16 or float16; the head is always float32.
        attention: Attention kernel: auto (flash-attention where it is installed and 16 bits are computed in, but not
            for Gemma 3 and the larger Gemma 4; else the model's default, mostly sdpa), or sdpa, eager,
            flash_attention_2, flash_attention_4.
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

    kind = "mprm"
    exact = ("head.",)

    def __init__(
        self,
        model_name: str,
        lr: float = 1e-6,
        head_lr: float | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        labels: LabelKind = "soft",
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
        super().__init__(
            model_name,
            lr=lr,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            dtype=dtype,
            attention=attention,
            freeze=freeze,
            gradient_checkpointing=gradient_checkpointing,
            seed=seed,
            lora=lora,
            trust_remote_code=trust_remote_code,
            revision=revision,
        )
        require_least("model.", 0, pairwise_weight=pairwise_weight, pairwise_margin=pairwise_margin)
        require_positive("model.", head_lr=head_lr)
        self.head_lr = head_lr
        self.label_kind = labels
        self.pairwise_weight = pairwise_weight
        self.pairwise_margin = pairwise_margin
        self.class_balance = class_balance
        self.class_weights: tuple[float, float] | None = None
        self.step_logprob_features = step_logprob_features
        self.head_size = head_size
        self.share_prompts = share_prompts and not gradient_checkpointing
        self.scorer: Any = None
        self._validated: list[dict[str, list[float]]] = []

    @property
    def root(self) -> Any:
        """The backbone and the head; None before they are loaded."""
        return self.scorer

    @property
    def backbone(self) -> nn.Module:
        """The vision-language model without the head."""
        backbone: nn.Module = self.scorer.backbone
        return backbone

    def configure_model(self) -> None:
        """Loads the backbone and adds the head, once; splits them over the processes if the strategy asks for that."""
        if self.scorer is None:
            backbone = self.load_backbone()
            scorer = StepScorer(
                backbone, step_logprob_features=self.step_logprob_features, head_size=self.head_size, seed=self.seed
            )
            # Transformers loads models in evaluation mode, and Lightning keeps the mode it finds.
            self.scorer = scorer.train()
            self.share_prompts = self.share_prompts and not is_recurrent(backbone)
        # The head always computes in float32.
        self.split(exact=[self.scorer.head])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and its schedule, in optimizer steps."""
        return configure(
            self.parameters(),
            self.lr,
            cast(OptimizerCallable, self._optimizer),
            self.lr_scheduler_factory,
            trainer=self._trainer,
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
        """Takes the weights of right and wrong steps from the labels to train on, which are set up before.

        Raises:
            ConfigError: the trainer has what a fit cannot have, or the data is none that the weights can be taken from.
        """
        super().setup(stage)
        if self.class_balance and stage in ("fit", "validate"):
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            if not isinstance(data, StepLabelDataModule):
                raise ConfigError("model.class_balance counts the labels of a StepLabelDataModule: set it to false.")
            self.class_weights = data.class_weights(self.label_kind)

    def on_fit_start(self) -> None:
        """Makes sure that there is something to learn, and says what the fit computes in and what it cannot learn.

        Raises:
            DataError: all step labels are of one value.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, StepLabelDataModule):
            data.require_two_kinds()
            if data.batch_size == 1 and self.pairwise_weight > 0 and self.trainer.is_global_zero:
                _log.warning(
                    "pairwise_weight is %g, but batches of one response hold no two to compare, so that the pairwise "
                    "term is 0: raise batch_size (and lower trainer.accumulate_grad_batches as much), or set "
                    "pairwise_weight to 0.",
                    self.pairwise_weight,
                )
        announce("MPRM", self.compute_precision, kernel_of(self.scorer.backbone))

    def forward(self, batch: StepLabelBatch) -> StepLogits:
        """The logits of all steps of the batch."""
        logits: StepLogits = self.scorer(batch.responses)
        return logits

    def losses(self, steps: StepLogits, batch: StepLabelBatch) -> tuple[Tensor, Tensor]:
        """The cross-entropy of the steps and the (unweighted) pairwise term."""
        labels_N = self._labels(batch)
        if (labelled_N := batch.labelled_N) is not None:
            steps, labels_N = StepLogits(steps.logits_N[labelled_N], steps.row_N[labelled_N]), labels_N[labelled_N]
        cross_entropy = step_loss(steps.logits_N, labels_N, self.class_weights)
        return cross_entropy, pairwise_loss(steps, labels_N, batch.group_B, self.pairwise_margin)

    @property
    def count_terms(self) -> TermCounter:
        """What counts the steps and the pairs of a batch."""
        return partial(count_terms, self.label_kind, self.pairwise_margin)

    def _labels(self, batch: StepLabelBatch) -> Tensor:
        return batch.soft_N if self.label_kind == "soft" else batch.hard_N

    def training_step(self, batch: StepLabelBatch, batch_idx: int) -> Tensor:
        """One step of training."""
        cross_entropy, pairwise = self.losses(self(batch), batch)
        of_steps, of_pairs = self.shares(batch)
        cross_entropy, pairwise = of_steps * cross_entropy, of_pairs * pairwise
        loss = cross_entropy + self.pairwise_weight * pairwise
        self.log_training(batch_idx, len(batch.group_B), loss=loss, step_loss=cross_entropy, pairwise_loss=pairwise)
        return loss

    def validation_step(self, batch: StepLabelBatch, batch_idx: int) -> None:
        """Scores a batch; the loss and the metrics are those of the whole validation set."""
        steps = self(batch)
        if repeats(self.trainer, batch_idx):
            return
        cross_entropy, pairwise = self.losses(steps, batch)
        num_steps, num_pairs = batch.counts
        rows = len(batch.group_B)
        self._validated.append(
            {
                "step_loss": [float(cross_entropy)] * num_steps,
                "pairwise_loss": [float(pairwise)] * num_pairs,
                "probability": steps.logits_N.sigmoid().tolist(),
                "label": self._labels(batch).tolist(),
                "score": steps.minimum(rows).tolist(),
                "group": batch.group_B.tolist(),
                "correct": batch.correct_B.tolist(),
                "chain": batch.chain_B.tolist(),
                "logprob": batch.logprobs,
            }
        )

    def on_validation_epoch_end(self) -> None:
        """Logs the loss, accuracy and calibration of the steps, and how well responses are ranked."""
        merged, self._validated = merge_validated(self._validated), []
        if merged:
            cross_entropy, pairwise = (fmean(merged[name] or [0.0]) for name in ("step_loss", "pairwise_loss"))
            self.log("val/loss", cross_entropy + self.pairwise_weight * pairwise, prog_bar=True, sync_dist=True)
            for name, value in validation_metrics(merged).items():
                self.log(name, value, prog_bar=name == "mprm/auc_within", sync_dist=True)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint must say of the head."""
        return {"step_logprob_features": self.step_logprob_features, "head_size": self.head_size}

    def write(
        self, folder: Path, state: dict[str, Tensor] | None, dtype: torch.dtype | None, base: nn.Module | None
    ) -> None:
        """Writes the MPRM as a folder that ``StepScorer.load`` reads; of a sharded one, the gathered ``state``."""
        self.scorer.save(folder, self.renderer, state=state, dtype=dtype, base=base)


def repeats(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a batch of step labels is one that makes up the number alone: all processes must have equally many."""
    sampler = cast(PromptBatchSampler, trainer.val_dataloaders.sampler)  # type: ignore[union-attr]
    return sampler.repeats(batch_idx)


def merge_validated(batches: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """What the batches of all processes have, by name; empty if there are none."""
    parts = gather_lists(batches)
    return {name: [value for part in parts for value in part[name]] for name in parts[0]} if parts else {}


def find_truth(chains: Sequence[float], correct: Sequence[float]) -> list[bool]:
    """Of each response, whether its whole chain is right where that is known, else whether its answer is."""
    return [bool(c if chain == _UNKNOWN else chain) for chain, c in zip(chains, correct, strict=True)]


def validation_metrics(validated: dict[str, list[float]]) -> dict[str, float]:
    """The metrics of scored responses; one that cannot be computed (a class is missing) is left out.

    The truth of a response is whether its whole chain is right where that is known, else whether its answer is.
    ``auc`` pools all prompts and also rewards knowing how hard a prompt is; ``auc_within`` compares responses to one
    prompt; ``auc_within_correct`` only those with the right answer, which is what re-ranking has to tell apart.
    The same two with the policy's own log-probability in place of the MPRM show what the MPRM adds.

    Args:
        validated: Lists by name: ``probability`` and ``label`` (NaN of a step that is not labelled) a step;
            ``score``, ``group``, ``correct``, ``chain`` and ``logprob`` a response.
    """
    metrics: dict[str, float | None] = {}
    labelled = [(p, y) for p, y in zip(validated["probability"], validated["label"], strict=True) if not math.isnan(y)]
    if labelled:
        metrics["mprm/step_accuracy"] = sum((p > 0.5) == (y > 0.5) for p, y in labelled) / len(labelled)
        metrics["mprm/ece"] = expected_calibration_error([p for p, _ in labelled], [y for _, y in labelled])
    chains, correct, groups = validated["chain"], validated["correct"], validated["group"]
    truth = find_truth(chains, correct)
    metrics["mprm/auc"] = auc(validated["score"], truth)
    # Among right answers only a known chain tells responses apart.
    right = [i for i, (chain, c) in enumerate(zip(chains, correct, strict=True)) if c and chain != _UNKNOWN]
    for name, scores in (("", validated["score"]), ("likelihood_", validated["logprob"])):
        if any(map(math.isnan, scores)):
            continue  # public labels have no log-probabilities, and what is unknown ranks nothing
        metrics[f"mprm/{name}auc_within"] = within_group_auc(scores, truth, groups)
        metrics[f"mprm/{name}auc_within_correct"] = within_group_auc(
            [scores[i] for i in right], [truth[i] for i in right], [groups[i] for i in right]
        )
    return {name: value for name, value in metrics.items() if value is not None}
