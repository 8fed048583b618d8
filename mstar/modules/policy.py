"""The policy: supervised fine-tuning on responses, and generation for evaluation.

Shapes: B rows, T tokens, N response tokens of the batch, H hidden, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mstar.datamodules.policy import PromptBatch
from mstar.distributed import gather_lists
from mstar.evaluation.greedy import greedy_responses
from mstar.generation import TransformersEngine
from mstar.grading import AnswerGrader, Grader
from mstar.metrics import chain_accuracy, mean_accuracy
from mstar.models.backbone import FreezablePart, freeze, load_model, load_renderer, save_model
from mstar.models.prefix import logits_of
from mstar.modules.optimization import configure
from mstar.rendering import IGNORE_INDEX, Renderer, ResponseInputs
from mstar.types import Prompt, ScoredResponse

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PolicyModule"]


class PolicyModule(LightningModule):
    """A vision-language model that learns to write responses (image, prompt -> response).

    The loss is the cross-entropy of the response's tokens and its end token; prompt and image tokens have none.

    Args:
        model_name: A Hugging Face folder or model id, or ``mstar/tiny-idefics3`` for the embedded model.
        lr: Learning rate (M-STaR: 1e-6, constant).
        optimizer: The optimizer, by class path and arguments.
        lr_scheduler: The schedule, stepped once an optimizer step; none for a constant rate.
        dtype: Type of the loaded weights: float32, bfloat16 or float16.
        attention: Transformers' attention implementation (sdpa, flash_attention_2, eager); none for its default.
        freeze: Parts that are not trained: vision, projector, language.
        gradient_checkpointing: Recompute activations in the backward pass, to save memory.
        max_new_tokens: Longest response that validate, test and predict generate.
        generation_batch_size: How many responses validate, test and predict write at the same time.
        grader: Decides whether a final answer is right in validate and test.
    """

    def __init__(
        self,
        model_name: str,
        lr: float = 1e-6,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        dtype: str = "float32",
        attention: str | None = None,
        freeze: list[FreezablePart] | None = None,
        gradient_checkpointing: bool = False,
        max_new_tokens: int = 1024,
        generation_batch_size: int = 64,
        grader: Grader | None = None,
    ) -> None:
        super().__init__()
        self.model_name = model_name
        self.lr = lr
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        self.dtype_name = dtype
        self.attention = attention
        self.freeze_parts = list(freeze or [])
        self.gradient_checkpointing = gradient_checkpointing
        self.engine = TransformersEngine(max_new_tokens, generation_batch_size, progress=False)
        self.grader = grader or AnswerGrader()
        self.model: Any = None
        self._renderer: Renderer | None = None
        self._seed = torch.initial_seed() % 2**31
        self._scored: list[ScoredResponse] = []

    @property
    def renderer(self) -> Renderer:
        """The renderer of the model's processor; loaded when it is first needed."""
        if self._renderer is None:
            self._renderer = load_renderer(self.model_name, self.policy)
        return self._renderer

    @property
    def policy(self) -> nn.Module:
        """The Hugging Face model."""
        self.configure_model()
        model: nn.Module = self.model
        return model

    def configure_model(self) -> None:
        """Loads the model, once."""
        if self.model is not None:
            return
        # Transformers loads models in evaluation mode, and Lightning keeps the mode it finds.
        self.model = self._load().train()
        freeze(self.model, self.freeze_parts)
        if self.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def _load(self) -> PreTrainedModel:
        return load_model(self.model_name, dtype=self.dtype_name, attention=self.attention, seed=self._seed)

    def restore_initial_weights(self) -> None:
        """Loads the weights that the fit began with (M-STaR: ReST-EM)."""
        self.policy.load_state_dict(self._load().state_dict())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and its schedule, in optimizer steps."""
        return configure(self.parameters(), self.lr, self.optimizer_factory, self.lr_scheduler_factory)

    def loss(self, batch: ResponseInputs) -> Tensor:
        """The mean cross-entropy of the batch's response tokens."""
        inputs = batch.inputs
        hidden_BTH = self.model.model(
            input_ids=inputs.ids_BT, attention_mask=inputs.mask_BT, use_cache=False, **inputs.extras
        ).last_hidden_state
        target_BT = batch.labels_BT[:, 1:]
        learned_BT = target_BT != IGNORE_INDEX
        # Logits of response tokens alone: prompt tokens would only fill memory (B x T x V).
        logits_NV = logits_of(self.model, hidden_BTH[:, :-1][learned_BT])
        return cross_entropy(logits_NV, target_BT[learned_BT])

    def training_step(self, batch: ResponseInputs, batch_idx: int) -> Tensor:
        """One step of training."""
        loss = self.loss(batch)
        rows = batch.labels_BT.shape[0]
        self.log("train/loss", loss, batch_size=rows, prog_bar=True)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=rows)
        return loss

    def _greedy(self, prompts: list[Prompt]) -> list[ScoredResponse]:
        self.engine.start(self.policy, self.renderer)
        return greedy_responses(self.engine, prompts, self.grader)

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
        # Several processes: the sampler gives some prompts twice, so that all have equally many; they count once.
        distinct = {scored.response.prompt_id: scored for scored in gather_lists(self._scored)}
        self._scored = []
        groups = [[scored] for scored in distinct.values()]
        if not groups:
            return
        self.log(f"{stage}/accuracy", mean_accuracy(groups), prog_bar=True, sync_dist=True)
        chains = chain_accuracy(groups)
        if chains is not None:
            self.log(f"{stage}/chain_accuracy", chains, prog_bar=True, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what an export needs to rebuild the model."""
        # Primitives only: the checkpoint stays loadable with weights_only=True.
        checkpoint["mstar"] = {"kind": "policy", "model_name": self.model_name, "dtype": self.dtype_name}

    def export(self, folder: Path) -> None:
        """Writes the policy as an ordinary Hugging Face folder."""
        save_model(self.model, self.renderer, folder)
