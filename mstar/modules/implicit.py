"""Training an implicit process reward model: a policy that learns from outcomes alone.

Shapes: B rows (responses), S the steps of all rows in order.
"""

from __future__ import annotations

import math
from statistics import fmean

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mstar.datamodules.step_label_batches import StepLabelBatch, TermCounter
from mstar.errors import DataError, require_positive
from mstar.metrics import auc, within_group_auc
from mstar.models.families import FreezablePart
from mstar.models.implicit_scorer import step_logprobs
from mstar.models.lora import LoraSettings
from mstar.models.prefix import is_recurrent
from mstar.models.sharding import inside_forward
from mstar.modules.mprm import find_truth, merge_validated, repeats
from mstar.modules.policy import PolicyModule


class ImplicitRewardModule(PolicyModule):
    """A policy that becomes a process reward model by learning which responses are right (arXiv 2412.01981).

    The logit of a response's being right is beta (log p(response) - log p_0(response)), where p_0 is the policy that it
    starts from; the loss is the cross-entropy of that logit. No step is labelled: of step labels, only the outcome and
    the log-probability under the policy that drew the response are read. So ``model_name`` must be that policy, which
    is then not needed a second time in memory. Of a response that the length limit cut off no end token was drawn, and
    none is counted. What it exports is an ordinary policy folder; ``mstar.rewards.Implicit`` scores with it and the
    folder that it was trained from.

    Args:
        model_name: The policy that drew the labelled responses: a Hugging Face folder.
        lr: Learning rate.
        optimizer: The optimizer, by class path and arguments.
        lr_scheduler: The schedule, stepped once an optimizer step; none for a constant rate.
        beta: Factor of the log-ratio (the paper: 0.05).
        dtype: Type of the stored weights: float32, bfloat16 or float16.
        attention: Attention kernel, as for ``PolicyModule``.
        freeze: Parts that are not trained: vision, projector, language.
        share_prompts: Encode image and prompt once for all the responses to a prompt in a batch; ignored with gradient
            checkpointing and for models with recurrent layers.
        gradient_checkpointing: Recompute activations in the backward pass, to save memory.
        lora: Train low-rank adapters in place of the weights; none trains the weights.
        trust_remote_code: Run Python code that comes with the model. Read it first.

    Raises:
        ConfigError: ``beta`` is not above 0.
    """

    def __init__(
        self,
        model_name: str,
        lr: float = 1e-6,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        beta: float = 0.05,
        dtype: str = "float32",
        attention: str | None = "auto",
        freeze: list[FreezablePart] | None = None,
        share_prompts: bool = True,
        gradient_checkpointing: bool = False,
        lora: LoraSettings | None = None,
        trust_remote_code: bool = False,
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
            lora=lora,
            trust_remote_code=trust_remote_code,
        )
        require_positive("model.", beta=beta)
        self.beta = beta
        self.share_prompts = share_prompts and not gradient_checkpointing
        self._validated: list[dict[str, list[float]]] = []

    def configure_model(self) -> None:
        """Loads the model, once."""
        super().configure_model()
        self.share_prompts = self.share_prompts and not is_recurrent(self.model)

    def rewards(self, batch: StepLabelBatch) -> tuple[Tensor, Tensor]:
        """The reward (B,) of every response of a batch, and the log-probability of each of its steps (S,).

        Raises:
            DataError: a response's log-probability under the policy that drew it is not known.
        """
        if not all(map(math.isfinite, batch.logprobs)):
            raise DataError(
                "an implicit reward learns from responses with the log-probability of the policy that drew them, which "
                "some of these labels lack: take what annotate wrote, without contrasts."
            )
        steps = step_logprobs(self.model, batch.responses, batch.finished)
        total_B = steps.logits_N.new_zeros(len(batch.group_B)).index_add(0, steps.row_N, steps.logits_N)
        return self.beta * (total_B - total_B.new_tensor(batch.logprobs)), steps.logits_N

    def training_step(self, batch: StepLabelBatch, batch_idx: int) -> Tensor:  # type: ignore[override]
        """One step of training."""
        reward_B, _ = inside_forward(self.model, self.rewards, batch)
        [of_rows] = self.shares(batch)
        loss = of_rows * binary_cross_entropy_with_logits(reward_B, batch.correct_B.float())
        self.log_training(batch_idx, len(reward_B), loss=loss)
        return loss

    @property
    def count_terms(self) -> TermCounter:
        """What counts the responses of a batch."""
        return _count_responses

    def on_validation_epoch_start(self) -> None:
        """Nothing is generated."""

    def validation_step(self, batch: StepLabelBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Scores a batch; the loss and the metrics are those of the whole validation set."""
        reward_B, _ = inside_forward(self.model, self.rewards, batch)
        if repeats(self.trainer, batch_idx):
            return
        loss_B = binary_cross_entropy_with_logits(reward_B, batch.correct_B.float(), reduction="none")
        rows = {
            "loss": loss_B,
            "reward": reward_B,
            "correct": batch.correct_B,
            "chain": batch.chain_B,
            "group": batch.group_B,
        }
        self._validated.append({name: value.tolist() for name, value in rows.items()})

    def on_validation_epoch_end(self) -> None:
        """Logs the loss, and how well whole rewards rank the responses, against whole chains where these are known."""
        merged, self._validated = merge_validated(self._validated), []
        if not merged:
            return
        truth = find_truth(merged["chain"], merged["correct"])
        self.log("val/loss", fmean(merged["loss"]), prog_bar=True, sync_dist=True)
        found = {
            "mprm/auc": auc(merged["reward"], truth),
            "mprm/auc_within": within_group_auc(merged["reward"], truth, merged["group"]),
        }
        for name, value in found.items():
            if value is not None:
                self.log(name, value, prog_bar=name == "mprm/auc_within", sync_dist=True)


def _count_responses(batch: StepLabelBatch) -> tuple[int]:
    return (len(batch.group_B),)
