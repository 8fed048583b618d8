"""Whether a module can be trained as it is configured; found out before anything is written."""

from __future__ import annotations

import inspect
import logging
from functools import partial
from typing import Any, Final, get_args

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.nn import Parameter

from mstar.distributed import rank
from mstar.errors import ConfigError
from mstar.models.attention import choose_attention
from mstar.models.backbone import load_model
from mstar.models.families import FreezablePart
from mstar.models.trained_part import prepare_training
from mstar.modules.backbone_module import precision_of
from mstar.modules.mprm import MPRMModule
from mstar.modules.optimization import configure
from mstar.modules.policy import PolicyModule

_log: Final = logging.getLogger(__name__)


def check_trainable(
    module: PolicyModule | MPRMModule,
    trainer: Trainer,
    lr: float | None = None,
    optimizer: OptimizerCallable | None = None,
    lr_scheduler: LRSchedulerCallable | None = None,
    name: str = "model.lr",
) -> None:
    """Refuses settings with which training cannot begin, and weights of 16 bits that the learning rate cannot move.

    Weights of 32 bits, and adapters, which have them, need no look; for those of 16 the model is loaded once more.

    Args:
        lr: Of an MPRM that is retrained from the module, with its optimizer and schedule; none for the module's own.

    Raises:
        ConfigError: the optimizer or the schedule refuses its settings, or the optimizer weights that are sharded or
            gradients that are clipped; every part is frozen, the attention kernel cannot run, the learning rate cannot
            move the weights, or adapters or an MPRM's head would lose their 32 bits.
    """
    refreshed = optimizer is not None
    if optimizer is None:
        optimizer, lr_scheduler = module.optimizer_factory, module.lr_scheduler_factory
    lr = lr or module.lr
    _tell_unread_rate(optimizer, lr, name)
    # A matrix, because some optimizers (Muon) take nothing else.
    made = configure([Parameter(torch.zeros(1, 1))], lr, optimizer, lr_scheduler, name)
    built = made["optimizer"] if isinstance(made, dict) else made
    # An MPRM that is refreshed is not split.
    if not refreshed and isinstance(trainer.strategy, ModelParallelStrategy):
        _check_sharding(built)
    # Those of a refreshed MPRM are always clipped.
    clipped = refreshed or trainer.gradient_clip_val
    scaling = getattr(built, "_step_supports_amp_scaling", False)
    if clipped and scaling and isinstance(trainer.precision_plugin, MixedPrecision):
        raise ConfigError(
            f"{name.removesuffix('lr')}optimizer {type(built).__name__} is fused, and its gradients cannot be clipped "
            f"with trainer.precision {trainer.precision}: leave fused out."
        )
    if set(module.freeze_parts) == set(get_args(FreezablePart)):
        raise ConfigError("model.freeze names every part of the model, so nothing can be trained; freeze less.")
    precision = precision_of(trainer, module.dtype_name)
    choose_attention(module.attention, precision.compute)
    if precision.weights == torch.float32:
        return
    converted = str(trainer.precision).endswith("-true") and trainer.precision != "32-true"
    if converted and (module.lora is not None or isinstance(module, MPRMModule)):
        what = "an MPRM's head" if module.lora is None else "the adapters"
        raise ConfigError(
            f"trainer.precision {trainer.precision} stores {what} in 16 bits too, where training needs float32: set "
            "trainer.precision to bf16-mixed, and model.dtype to bfloat16 if the other weights are to have 16 bits."
        )
    if module.lora is not None:
        if module.lora.modules_to_save and not precision.mixed:
            raise ConfigError(
                "model.lora.modules_to_save trains weights of 32 bits beside others of 16, which trainer.precision "
                f"{trainer.precision} cannot compute with: set trainer.precision to bf16-mixed, or model.dtype to "
                "float32."
            )
        return
    if precision.weights == torch.float16 and trainer.precision == "16-mixed":
        raise ConfigError(
            "model.dtype is float16, but trainer.precision 16-mixed scales gradients of float32 weights alone: set "
            "model.dtype to float32."
        )
    model: Any = load_model(
        module.model_name,
        dtype=module.dtype_name,
        trust_remote_code=module.trust_remote_code,
        revision=module.revision,
    )
    prepare_training(model, module.freeze_parts)
    for parameter in model.parameters():
        if converted:
            parameter.data = parameter.data.to(precision.weights)
    configure(model.parameters(), lr, optimizer, None, name)


def _check_sharding(optimizer: object) -> None:
    if any(kind.__module__.startswith("bitsandbytes.") for kind in type(optimizer).__mro__):
        raise ConfigError(
            f"model.optimizer {type(optimizer).__name__} is one of bitsandbytes, which cannot move weights that are "
            "split over processes: choose torch.optim.AdamW, or leave configs/overlays/fsdp2.yaml out."
        )


def _tell_unread_rate(optimizer: OptimizerCallable, lr: float, name: str) -> None:
    """Says that a rate among the optimizer's own arguments is not the one that is trained with."""
    # What the command line makes of a class and its arguments; the class comes last.
    if not isinstance(optimizer, partial) or not optimizer.args or not isinstance(optimizer.args[-1], type):
        return
    given, known = optimizer.keywords.get("lr"), inspect.signature(optimizer.args[-1]).parameters.get("lr")
    if known is not None and given not in (None, lr, known.default) and rank() == 0:
        _log.warning("the optimizer's own lr, %s, is not read: the rate is %s, %s", given, name, lr)
