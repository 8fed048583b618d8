"""The policy: supervised fine-tuning on responses, and generation for evaluation.

Shapes: B rows, T tokens, N response tokens of the batch, H hidden, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import pad

from mstar.datamodules.step_batches import Credit, StepBatch
from mstar.generation import Engine
from mstar.grading import Grader
from mstar.models.attention import announce, kernel_of
from mstar.models.backbone import load_stored
from mstar.models.export import save_model
from mstar.models.families import FreezablePart, family_of
from mstar.models.lora import LoraSettings
from mstar.models.packing import check_packing, packed_hidden_states
from mstar.models.sharding import inside_forward, load_full_state
from mstar.models.token_loss import LossKernel, check_loss_kernel, mean_token_loss, token_losses
from mstar.modules.answering import AnsweringModule
from mstar.modules.optimization import configure
from mstar.modules.policy_losses import Objective, sample_losses
from mstar.rendering import IGNORE_INDEX, ResponseInputs


class PolicyModule(AnsweringModule):
    """A vision-language model that learns to write responses (image, prompt -> response).

    The loss is the cross-entropy of the response's tokens and its end token; prompt and image tokens have none. With a
    ``rollout.method`` that learns from every sample, it is that of ``mstar.modules.policy_losses``.

    Args:
        model_name: A Hugging Face folder or model id, or ``mstar/tiny-idefics3`` for the embedded model.
        lr: Learning rate (M-STaR: 1e-6, constant).
        optimizer: The optimizer, by class path and arguments.
        lr_scheduler: The schedule, stepped once an optimizer step; none for a constant rate.
        dtype: Type of the stored weights: float32, bfloat16, float16, or auto (float32 where they are trained; else 16
            bits on CUDA).
        attention: Attention kernel: auto (flash-attention where it is installed and 16 bits are computed in, but not
            for Gemma 3 and the larger Gemma 4; else the model's default, mostly sdpa), or sdpa, eager,
            flash_attention_2, flash_attention_4.
        freeze: Parts that are not trained: vision, projector, language.
        gradient_checkpointing: Recompute activations in the backward pass, to save memory.
        engine: Draws the responses of validate, test and predict; none is the Transformers engine. With ``rollout``
            they are drawn by ``rollout.engine``, which is named there alone. A model by address (``OpenAIEngine``)
            answers in the policy's place, and no weights are loaded.
        max_new_tokens: Longest response, in tokens: short for an ``engine`` with this one setting. Beside an engine, or
            ``rollout.engine``, it must say what that says.
        grader: Decides whether a final answer is right in validate and test.
        lora: Train low-rank adapters in place of the weights; none trains the weights. Checkpoints then hold what is
            trained alone, an export the merged weights.
        trust_remote_code: Run Python code that comes with the model (MiniCPM-V 2.5, Phi-3.5-vision), and with the MPRM
            of a rollout. Read it first.
        revision: Commit, tag or branch of a model id; with trust_remote_code it must be a commit.
        loss_kernel: How the loss is computed: chunked bounds the memory of the logits, liger fuses them away (CUDA,
            extra ``liger``), torch holds them all.
        packing: Train on batches without padding, their rows laid end to end. Worth it with flash-attention; without
            it, such a batch costs more than the padding.

    Raises:
        ConfigError: a setting cannot work.
    """

    kind = "policy"

    def __init__(
        self,
        model_name: str,
        lr: float = 1e-6,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        dtype: str = "float32",
        attention: str | None = "auto",
        freeze: list[FreezablePart] | None = None,
        gradient_checkpointing: bool = False,
        engine: Engine | None = None,
        max_new_tokens: int | None = None,
        grader: Grader | None = None,
        lora: LoraSettings | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        loss_kernel: LossKernel = "chunked",
        packing: bool = False,
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
            seed=torch.initial_seed() % 2**31,
            lora=lora,
            trust_remote_code=trust_remote_code,
            revision=revision,
        )
        self.answer_with(engine, max_new_tokens, grader)
        check_loss_kernel(loss_kernel)
        self.loss_kernel = loss_kernel
        self.packing = packing
        self.model: Any = None
        # With adapters, what is trained as it was at first.
        self._first: dict[str, Tensor] = {}
        # How samples with advantages are learned from; a rollout whose method does so sets it.
        self.objective: Objective | None = None
        self._watched: dict[str, Tensor] = {}

    @property
    def root(self) -> Any:
        """The Hugging Face model; None before it is loaded."""
        return self.model

    @property
    def policy(self) -> nn.Module:
        """The Hugging Face model."""
        self.configure_model()
        model: nn.Module = self.model
        return model

    def configure_model(self) -> None:
        """Loads the model, once, and splits it over the processes if the strategy asks for that."""
        if self.by_address:
            return
        if self.model is None:
            # Transformers loads models in evaluation mode, and Lightning keeps the mode it finds.
            self.model = self.load_backbone(self.seed).train()
            if self.lora is not None:
                # Before a checkpoint is loaded. They are few, and the model would be loaded again for them.
                trained = ((name, value) for name, value in self.model.named_parameters() if value.requires_grad)
                self._first = {name: value.detach().to("cpu", copy=True) for name, value in trained}
            if self.packing:
                check_packing(self.model)
        self.split()

    def restore_initial_weights(self) -> None:
        """Goes back to the weights that the fit began with (M-STaR: ReST-EM)."""
        if self.lora is not None:
            load_full_state(self.policy, self._first, strict=False)
            return
        start = load_stored(self.model_name, **self.loading_settings(self.seed))
        load_full_state(self.policy, start.state_dict())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and its schedule, in optimizer steps."""
        return configure(
            self.parameters(), self.lr, self.optimizer_factory, self.lr_scheduler_factory, trainer=self._trainer
        )

    def loss(self, batch: ResponseInputs) -> Tensor:
        """The mean cross-entropy of the batch's response tokens, or what the objective makes of samples.

        Of a batch that is part of an optimizer step, the share of the mean over the whole step's tokens, so that every
        token counts the same, or by the weight of its row, in whatever batch it is.
        """
        inputs = batch.inputs
        learned_BT = batch.labels_BT[:, 1:] != IGNORE_INDEX
        # Logits of response tokens alone: prompt tokens would only fill memory (B x T x V).
        if self.packing:
            predicting_N = pad(learned_BT, (0, 1))[inputs.mask_BT.bool()]
            hidden_NH = packed_hidden_states(self.model, inputs)[predicting_N]
        else:
            hidden_BTH = family_of(self.model).hidden_states(self.model, inputs.ids_BT, inputs.mask_BT, inputs.extras)
            hidden_NH = hidden_BTH[:, :-1][learned_BT]
        target_N = batch.labels_BT[:, 1:][learned_BT]
        if isinstance(batch, StepBatch) and batch.credit is not None:
            return self._sample_loss(batch, batch.credit, hidden_NH, target_N)
        if isinstance(batch, StepBatch) and batch.weight_B is not None:
            weight_N = torch.repeat_interleave(batch.weight_B, learned_BT.sum(1), output_size=len(target_N))
            return (weight_N * token_losses(self.model, hidden_NH, target_N)).sum() / batch.mean_tokens
        loss = mean_token_loss(self.model, hidden_NH, target_N, self.loss_kernel)
        if isinstance(batch, StepBatch):
            loss = loss * (len(hidden_NH) / batch.mean_tokens)
        return loss

    def _sample_loss(self, batch: StepBatch, credit: Credit, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
        if self.objective is None:
            raise RuntimeError("samples with advantages are trained on, but the policy was given no objective.")
        losses = sample_losses(-token_losses(self.model, hidden_NH, target_N), credit, self.objective)
        watched = {"clipped_fraction": losses.clipped_N, "ratio": losses.ratio_N, "kl": losses.kl_N}
        self._watched = {name: value_N.sum() / batch.mean_tokens for name, value_N in watched.items()}
        by_row = self.objective.settings.level == "sequence"
        return losses.loss_N.sum() / (batch.mean_rows if by_row else batch.mean_tokens)

    def _share_means(self, batch: ResponseInputs) -> None:
        """Has every token of a step count by its worth over all processes, which may have more or fewer of them."""
        if isinstance(batch, StepBatch):
            batch.mean_tokens, batch.mean_rows = self.share_means((batch.mean_tokens, batch.mean_rows))

    def training_step(self, batch: ResponseInputs, batch_idx: int) -> Tensor:
        """One step of training."""
        self._share_means(batch)
        loss = inside_forward(self.model, self.loss, batch)
        self.log_training(batch_idx, batch.labels_BT.shape[0], loss=loss, **self._watched)
        return loss

    def on_fit_start(self) -> None:
        """Says what the fit computes in."""
        announce("policy", self.compute_precision, kernel_of(self.policy))

    def write(
        self, folder: Path, state: dict[str, Tensor] | None, dtype: torch.dtype | None, base: nn.Module | None
    ) -> None:
        """Writes the policy as an ordinary Hugging Face folder; of a sharded one, the gathered ``state``."""
        save_model(self.model, self.renderer, folder, state=state, dtype=dtype, base=base)
