"""What the training of a policy and of an MPRM share: a backbone that is loaded, split, trained and exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from mstar.datamodules.step_label_batches import StepLabelBatch
from mstar.distributed import is_main
from mstar.errors import ConfigError
from mstar.models.backbone import load_model, load_renderer, load_stored
from mstar.models.families import FreezablePart
from mstar.models.fingerprint import fingerprint_model, fingerprint_state
from mstar.models.lora import LoraSettings, save_adapter
from mstar.models.precision import DTYPES, Precision, resolve_dtype
from mstar.models.sharding import gather_state, is_sharded, shard
from mstar.models.trained_part import prepare_training
from mstar.modules.backbone_checkpoint import (
    check_kind,
    check_trained,
    find_place,
    keep_trained,
    require_savable,
    write_provenance,
)
from mstar.modules.fit_check import check_fit
from mstar.rendering import Renderer


def precision_of(trainer: Trainer | None, dtype: str) -> Precision:
    """What a model that is loaded in ``dtype`` computes in, in a trainer's run or without one (an export)."""
    # An unknown type is refused where the model is loaded.
    return Precision.of("32-true" if trainer is None else trainer.precision, DTYPES.get(dtype, torch.float32))


class BackboneModule(LightningModule):
    """A module whose model is, or contains, a vision-language model that Transformers loads.

    The arguments are those of ``PolicyModule`` and ``MPRMModule``, which say what they mean.

    Attributes:
        exact: Beginnings of the names of weights that an export never rounds.
    """

    kind: ClassVar[Literal["policy", "mprm"]]
    exact: ClassVar[Sequence[str]] = ()

    def __init__(
        self,
        model_name: str,
        *,
        lr: float,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
        dtype: str,
        attention: str | None,
        freeze: list[FreezablePart] | None,
        gradient_checkpointing: bool,
        seed: int,
        lora: LoraSettings | None,
        trust_remote_code: bool,
        revision: str | None,
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
        self.seed = seed
        self.lora = lora
        self.trust_remote_code = trust_remote_code
        self.revision = revision
        # With adapters a checkpoint has them alone; what it must have is checked in on_load_checkpoint.
        self.strict_loading = lora is None
        self._frozen_weights: str | None = None
        self._renderer: Renderer | None = None
        self._step_numbers: dict[str, torch.Tensor] = {}

    @property
    def root(self) -> Any:
        """The model that is trained; None before it is loaded."""
        raise NotImplementedError

    @property
    def backbone(self) -> nn.Module:
        """The vision-language model in it; all of it unless a module says otherwise."""
        model: nn.Module = self.root
        return model

    def write(
        self, folder: Path, state: dict[str, torch.Tensor] | None, dtype: torch.dtype | None, base: nn.Module | None
    ) -> None:
        """Writes the model into a folder; of a sharded one, the gathered ``state``; of one in 4 bits, on ``base``."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What a checkpoint must say of the model beside its backbone, as primitives."""
        return {}

    @property
    def renderer(self) -> Renderer:
        """The renderer of the model's processor; loaded when it is first needed."""
        if self._renderer is None:
            self.configure_model()
            self._renderer = load_renderer(
                self.model_name, self.backbone, trust_remote_code=self.trust_remote_code, revision=self.revision
            )
        return self._renderer

    @property
    def compute_precision(self) -> Precision:
        """What the backbone computes in: one decision for training, rollouts and evaluation."""
        return precision_of(self._trainer, self.dtype_name)

    def load_backbone(self, seed: int = 0) -> Any:
        """Loads what is trained, straight to the device, or for ``split`` to take over.

        Args:
            seed: Seed of the embedded model's weights.
        """
        trained = self._trainer is None or self.trainer.state.fn == TrainerFn.FITTING
        self.dtype_name = resolve_dtype(self.dtype_name, "cpu" if trained else self.trainer.strategy.root_device)
        settings = self.loading_settings(seed) | {"device": self.device}
        quantization = "none" if self.lora is None else self.lora.quantization
        if self.device_mesh is not None and quantization == "none":
            # The module itself is on the CPU still.
            settings["device"] = self.trainer.strategy.root_device
            model: Any = load_stored(self.model_name, **settings, widen=self.lora is None)
        else:
            model = load_model(self.model_name, **settings, quantization=quantization)
        prepare_training(model, self.freeze_parts, self.lora, self.gradient_checkpointing, self.seed)
        return model

    def loading_settings(self, seed: int) -> dict[str, Any]:
        """What ``load_model`` and ``load_stored`` are given alike."""
        return {
            "dtype": self.dtype_name,
            "compute": self.compute_precision.compute,
            "attention": self.attention,
            "seed": seed,
            "trust_remote_code": self.trust_remote_code,
            "revision": self.revision,
        }

    def split(self, exact: Sequence[nn.Module] = ()) -> None:
        """Splits the loaded model over the processes if the strategy asks for that; notes what is not trained of it."""
        if self.lora is not None and self._frozen_weights is None:
            frozen = ((name, value) for name, value in self.root.named_parameters() if not value.requires_grad)
            self._frozen_weights = fingerprint_state(frozen)
        if self.device_mesh is not None and not is_sharded(self.root):
            shard(
                self.root,
                self.device_mesh["data_parallel"],
                backbone=self.backbone,
                exact=exact,
                mixed_precision=self.trainer.precision == "bf16-mixed",
                widen=self.dtype_name == "float32",
            )

    def check_fit(self, trainer: Trainer) -> None:
        """Makes sure that a trainer has nothing that a fit cannot have; the command line does before it writes.

        Raises:
            ConfigError: it has.
        """
        check_fit(trainer, adapters=self.lora is not None)

    def setup(self, stage: str) -> None:
        """Has DDP look which weights a loss depends on, unless the configuration says otherwise.

        DDP waits for a gradient of every weight else. A batch without pictures leaves the vision tower out, and some
        models have weights that nothing uses: LLaVA reads its tower before the last layer. Weights that no process used
        get no gradient, so that no optimizer moves or decays them.

        Raises:
            ConfigError: the trainer has what a fit cannot have.
        """
        if stage == "fit":
            self.check_fit(self.trainer)
        if isinstance(self.trainer.strategy, DDPStrategy):
            self.trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves or converts the module, but for the type of rotary frequencies, which Transformers keeps in float32.

        With trainer.precision bf16-true Lightning converts all of it, and tokens far into a text would lose their
        angles.
        """
        kept = [
            (module, name, value)
            for module in self.modules()
            for name, value in module.named_buffers(recurse=False)
            if "freq" in name
        ]
        super().to(*args, **kwargs)
        for module, name, value in kept:
            setattr(module, name, value.to(getattr(module, name).device))
        return self

    def share_means(self, means: tuple[float, ...]) -> tuple[float, ...]:
        """Means over a process's batches of an optimizer step -> those over the batches of all processes."""
        if self.trainer.world_size == 1:
            return means
        # With trainer.precision bf16-true the default type would round them.
        own = torch.tensor(means, device=self.device, dtype=torch.float32)
        return tuple(self.trainer.strategy.reduce(own, reduce_op="mean").tolist())

    def shares(self, batch: StepLabelBatch) -> list[float]:
        """By what the means over a batch's terms are multiplied, a kind, to be its share of the step's mean."""
        means = self.share_means(batch.means)
        return [count / mean if mean else 1.0 for count, mean in zip(batch.counts, means, strict=True)]

    def log_training(self, batch_idx: int, rows: int, **shares: torch.Tensor) -> None:
        """Logs, as ``train/NAME``, numbers of the optimizer step, and the learning rate.

        Args:
            batch_idx: The batch's place in the epoch.
            rows: Rows of the batch.
            shares: The batch's share of each number. They are added up over the step, and loggers get what its last
                batch has made of them: the last one's own may be those of the step's shortest rows.
        """
        batches = self.trainer.accumulate_grad_batches
        before = self._step_numbers if batch_idx % batches else {}
        self._step_numbers = {name: before.get(name, 0.0) + value.detach() / batches for name, value in shares.items()}
        # Of several processes, one has its own share of a step alone.
        for name, value in self._step_numbers.items():
            self.log(f"train/{name}", value, batch_size=rows, prog_bar=name == "loss", sync_dist=True)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=rows)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what an export needs to rebuild the model; refuses what is not finite."""
        require_savable(self)
        # Primitives only: the checkpoint stays loadable with weights_only=True. Trust in the model's own code is not
        # among them: a checkpoint from elsewhere must not grant it.
        facts = {"kind": self.kind, "model_name": self.model_name, "dtype": self.dtype_name} | self.facts()
        checkpoint["mstar"] = facts
        if self.revision is not None:
            facts["revision"] = self.revision
        if self.lora is not None:
            facts |= {"lora": asdict(self.lora), "frozen_weights": self._frozen_weights}
            keep_trained(checkpoint, self, self.root)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is this module's, and fits the adapters."""
        check_kind(checkpoint, self.kind)
        self.configure_model()
        check_trained(checkpoint, self, self.lora, self._frozen_weights)

    def require_adapter(self) -> None:
        """Makes sure that adapters are all that was trained.

        Raises:
            ConfigError: they are not.
        """
        if self.kind != "policy" or self.lora is None or self.lora.modules_to_save:
            raise ConfigError(
                "more was trained than adapters (all weights, model.lora.modules_to_save or an MPRM's head): leave "
                "--adapter out, which exports all of it."
            )

    def export(self, folder: Path, dtype: torch.dtype | None = None, adapter: bool = False) -> None:
        """Writes the model as a folder; the main process does, of weights that all may hold.

        With 4-bit weights (QLoRA) the folder has the adapters on the weights that ``model_name`` has, and not on those
        that were computed with, of which the next stage's 4 bits would leave nothing (``merged_state``). Loaded in 4
        bits it is about what was trained. The folder of ``model_name`` is read for it, into main memory.

        Args:
            folder: The folder: a policy's for Transformers and vLLM, an MPRM's for ``StepScorer.load``.
            dtype: Type of the backbone's weights in it; by default that of the stored ones. Sums of these and of
                adapters are rounded to it alone.
            adapter: Whether it gets the adapters alone, for peft and vLLM; of a model that ``require_adapter`` lets
                pass.
        """
        self.configure_model()
        state = None
        if is_sharded(self.root):
            # Adapters are folded in before anything is rounded.
            state = gather_state(self.root, dtype if self.lora is None else None, exact=self.exact)
        weights = fingerprint_model(self.root)
        if is_main():
            if adapter:
                save_adapter(self.backbone, folder, state, find_place(self.model_name))
            else:
                quantised = self.lora is not None and self.lora.quantization != "none"
                base = load_model(self.model_name, **self.loading_settings(self.seed)) if quantised else None
                self.write(folder, state, dtype, base)
            write_provenance(folder, self.kind, self.model_name, weights)
