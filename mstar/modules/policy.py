"""The policy: supervised fine-tuning on responses, and generation for evaluation.

Shapes: B rows, T tokens, N response tokens of the batch, H hidden, V vocabulary.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.optim import Optimizer

from mstar.datamodules.step_batches import StepBatch
from mstar.datamodules.usable import PromptBatch
from mstar.distributed import gather_lists, is_main
from mstar.evaluation.greedy import find_cut_off, greedy_responses, require_gradeable
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader, Grader
from mstar.metrics import chain_accuracy, mean_accuracy
from mstar.models.attention import announce, kernel_of
from mstar.models.backbone import (
    FreezablePart,
    family_of,
    load_model,
    load_renderer,
    load_stored,
    prepare_training,
    save_model,
)
from mstar.models.fingerprint import fingerprint_model
from mstar.models.lora import LoraSettings
from mstar.models.packing import check_packing, packed_hidden_states
from mstar.models.precision import Precision
from mstar.models.sharding import (
    complete_gradients,
    empty_loss,
    gather_state,
    inside_forward,
    is_sharded,
    load_full_state,
    shard,
)
from mstar.models.token_loss import LossKernel, check_loss_kernel, mean_token_loss
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
from mstar.modules.unused_weights import expect_unused_weights
from mstar.rendering import IGNORE_INDEX, Renderer, ResponseInputs
from mstar.types import Prompt, ScoredResponse

__all__ = ["PolicyModule"]


class PolicyModule(LightningModule):
    """A vision-language model that learns to write responses (image, prompt -> response).

    The loss is the cross-entropy of the response's tokens and its end token; prompt and image tokens have none.

    Args:
        model_name: A Hugging Face folder or model id, or ``mstar/tiny-idefics3`` for the embedded model.
        lr: Learning rate (M-STaR: 1e-6, constant).
        optimizer: The optimizer, by class path and arguments.
        lr_scheduler: The schedule, stepped once an optimizer step; none for a constant rate.
        dtype: Type of the stored weights: float32, bfloat16 or float16.
        attention: Attention kernel: auto (flash-attention where it is installed and 16 bits are computed in, else the
            model's default, mostly sdpa), or sdpa, eager, flash_attention_2, flash_attention_4.
        freeze: Parts that are not trained: vision, projector, language.
        gradient_checkpointing: Recompute activations in the backward pass, to save memory.
        max_new_tokens: Longest response that validate, test and predict generate.
        generation_batch_size: How many responses validate, test and predict write at the same time; by default as many
            as a GPU's memory holds, and 64 on a CPU.
        grader: Decides whether a final answer is right in validate and test.
        lora: Train low-rank adapters in place of the weights; none trains the weights. Checkpoints then hold the
            adapters alone, an export the merged weights.
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
        max_new_tokens: int = 1024,
        generation_batch_size: int | None = None,
        grader: Grader | None = None,
        lora: LoraSettings | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        loss_kernel: LossKernel = "chunked",
        packing: bool = False,
    ) -> None:
        super().__init__()
        check_loss_kernel(loss_kernel)
        self.model_name = model_name
        self.lr = lr
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        self.dtype_name = dtype
        self.attention = attention
        self.freeze_parts = list(freeze or [])
        self.gradient_checkpointing = gradient_checkpointing
        self.lora = lora
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        self.loss_kernel = loss_kernel
        self.packing = packing
        # With adapters a checkpoint has them alone; what it must have is checked in on_load_checkpoint.
        self.strict_loading = lora is None
        self.engine = TransformersEngine(max_new_tokens, generation_batch_size, progress=False)
        self.grader = grader or AnswerGrader()
        self.model: Any = None
        self._frozen_weights: str | None = None
        self._renderer: Renderer | None = None
        self._seed = torch.initial_seed() % 2**31
        self._scored: list[ScoredResponse] = []

    @property
    def renderer(self) -> Renderer:
        """The renderer of the model's processor; loaded when it is first needed."""
        if self._renderer is None:
            self._renderer = load_renderer(
                self.model_name, self.policy, trust_remote_code=self.trust_remote_code, revision=self.revision
            )
        return self._renderer

    @property
    def policy(self) -> nn.Module:
        """The Hugging Face model."""
        self.configure_model()
        model: nn.Module = self.model
        return model

    @property
    def compute_precision(self) -> Precision:
        """What the policy computes in: one decision for training, rollouts and evaluation."""
        return precision_of(self._trainer, self.dtype_name)

    def configure_model(self) -> None:
        """Loads the model, once, and splits it over the processes if the strategy asks for that."""
        if self.model is None:
            self.model = self._build(sharded=self.device_mesh is not None)
            if self.packing:
                check_packing(self.model)
            if self.lora is not None:
                self._frozen_weights = fingerprint_frozen(self.model)
        if self.device_mesh is not None and not is_sharded(self.model):
            shard(
                self.model,
                self.device_mesh["data_parallel"],
                mixed_precision=self.trainer.precision == "bf16-mixed",
                widen=self.dtype_name == "float32",
            )

    def _build(self, sharded: bool = False) -> Any:
        """Loads what is trained, straight to the device, or for ``shard`` to take over."""
        settings: dict[str, Any] = {
            "dtype": self.dtype_name,
            "device": self.device,
            "compute": self.compute_precision.compute,
            "attention": self.attention,
            "seed": self._seed,
            "trust_remote_code": self.trust_remote_code,
            "revision": self.revision,
        }
        quantization = "none" if self.lora is None else self.lora.quantization
        if sharded and quantization == "none":
            model: Any = load_stored(self.model_name, **settings, widen=self.lora is None)
        else:
            model = load_model(self.model_name, **settings, quantization=quantization)
        prepare_training(model, self.freeze_parts, self.lora, self.gradient_checkpointing, self._seed)
        # Transformers loads models in evaluation mode, and Lightning keeps the mode it finds.
        return model.train()

    def restore_initial_weights(self) -> None:
        """Loads the weights that the fit began with (M-STaR: ReST-EM)."""
        if self.lora is not None:
            # The rest has not changed, and weights in 4 bits cannot be loaded from a state.
            start = self._build(sharded=self.lora.quantization == "none").state_dict()
            adapters = {name: value for name, value in start.items() if ".lora_" in name}
            load_full_state(self.policy, adapters, strict=False)
            return
        start = load_stored(
            self.model_name,
            dtype=self.dtype_name,
            compute=self.compute_precision.compute,
            attention=self.attention,
            seed=self._seed,
            trust_remote_code=self.trust_remote_code,
            revision=self.revision,
        )
        load_full_state(self.policy, start.state_dict())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and its schedule, in optimizer steps."""
        return configure(self.parameters(), self.lr, self.optimizer_factory, self.lr_scheduler_factory)

    def loss(self, batch: ResponseInputs) -> Tensor:
        """The mean cross-entropy of the batch's response tokens.

        Of a batch that is part of an optimizer step, the share of the mean over the whole step's tokens, so that every
        token counts the same in whatever batch it is.
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
        loss = mean_token_loss(self.model, hidden_NH, batch.labels_BT[:, 1:][learned_BT], self.loss_kernel)
        if isinstance(batch, StepBatch):
            loss = loss * (len(hidden_NH) / batch.mean_tokens)
        return loss

    def training_step(self, batch: ResponseInputs, batch_idx: int) -> Tensor:
        """One step of training."""
        loss = inside_forward(self.model, self.loss, batch)
        if not batch.inputs.extras and is_sharded(self.model):
            loss = loss + empty_loss(self.model)
        rows = batch.labels_BT.shape[0]
        self.log("train/loss", loss, batch_size=rows, prog_bar=True)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=rows)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Keeps the optimizer's state complete where weights are sharded."""
        complete_gradients(self.model)

    def setup(self, stage: str) -> None:
        """Has DDP expect weights that a batch does not use."""
        expect_unused_weights(self.trainer)

    def on_fit_start(self) -> None:
        """Says what the fit computes in."""
        announce("policy", self.compute_precision, kernel_of(self.policy))

    def _start_engine(self) -> None:
        self.engine.start(self.policy, self.renderer)
        self.engine.update_weights(self.policy)

    def _greedy(self, prompts: list[Prompt]) -> list[ScoredResponse]:
        with self.compute_precision.context(self.device):
            return greedy_responses(self.engine, prompts, self.grader)

    def on_validation_epoch_start(self) -> None:
        """Prepares the engine."""
        self._start_engine()

    def on_test_epoch_start(self) -> None:
        """Prepares the engine."""
        self._start_engine()

    def on_predict_epoch_start(self) -> None:
        """Prepares the engine."""
        self._start_engine()

    def on_predict_epoch_end(self) -> None:
        """Frees what the engine holds."""
        self.engine.rest()

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answers and grades a batch of prompts."""
        self._scored += self._greedy(batch.prompts)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/accuracy`` and, where the data knows it, ``val/chain_accuracy``."""
        self._log_scores("val")

    def test_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answers and grades a batch of prompts."""
        self._scored += self._greedy(batch.prompts)

    def on_test_epoch_end(self) -> None:
        """Logs ``test/accuracy`` and, where the data knows it, ``test/chain_accuracy``."""
        self._log_scores("test")

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> list[ScoredResponse]:
        """The graded greedy response of every prompt."""
        return self._greedy(batch.prompts)

    def _log_scores(self, stage: str) -> None:
        self.engine.rest()
        # Several processes: the sampler gives some prompts twice, so that all have equally many; they count once.
        distinct = {scored.response.prompt_id: scored for scored in gather_lists(self._scored)}
        self._scored = []
        groups = [[scored] for scored in distinct.values()]
        if not groups:
            return
        if stage == "test":
            require_gradeable(list(distinct.values()))
        cut_off = find_cut_off(list(distinct.values()), self.engine.max_new_tokens)
        if cut_off is not None and is_main() and not self.trainer.sanity_checking:
            sys.stderr.write(f"mstar: {cut_off}\n")
        self.log(f"{stage}/accuracy", mean_accuracy(groups), prog_bar=True, sync_dist=True)
        chains = chain_accuracy(groups)
        if chains is not None:
            self.log(f"{stage}/chain_accuracy", chains, prog_bar=True, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what an export needs to rebuild the model; refuses what is not finite."""
        require_savable(self)
        # Primitives only: the checkpoint stays loadable with weights_only=True.
        checkpoint["mstar"] = {"kind": "policy"} | describe_backbone(
            self.model_name, self.dtype_name, self.lora, self._frozen_weights, self.revision
        )
        if self.lora is not None:
            keep_trained(checkpoint, self, self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is this module's, and fits the adapters."""
        check_kind(checkpoint, "policy")
        self.configure_model()
        check_trained(checkpoint, self, self.lora, self._frozen_weights)

    def export(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Writes the policy as an ordinary Hugging Face folder; the main process does, of weights that all may hold.

        Args:
            folder: The folder.
            dtype: Type of its weights; by default that of the stored ones.
        """
        model = self.model
        state = None
        if is_sharded(model):
            # Adapters are folded in before anything is rounded.
            state = gather_state(model, dtype if self.lora is None else None)
        weights = fingerprint_model(model)
        if is_main():
            save_model(model, self.renderer, folder, state=state, dtype=dtype)
            write_provenance(folder, "policy", self.model_name, weights)
