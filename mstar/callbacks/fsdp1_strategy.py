"""The FSDP1 strategy, for those who need it; ``ShardedStrategy`` (FSDP2) is the better choice."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy
from torch.optim import Optimizer

from mstar.errors import ConfigError
from mstar.models.fsdp1 import is_whole, link_wrapper
from mstar.models.sharding import decoder_layers, gather_state
from mstar.modules import MPRMModule, PolicyModule

__all__ = ["FSDP1Strategy"]


class FSDP1Strategy(FSDPStrategy):
    """FSDP1 with one unit a decoder layer. Checkpoints are single files.

    With ``trainer.precision: bf16-mixed`` the model computes in bfloat16; its weights, sums of gradients and buffers
    stay in float32. Generation within the training process needs memory for all weights in float32.

    Args:
        sharding: FULL_SHARD, SHARD_GRAD_OP (weights stay whole between forward and backward pass), or HYBRID_SHARD
            (split within a machine, copied between machines).
    """

    def __init__(self, sharding: Literal["FULL_SHARD", "SHARD_GRAD_OP", "HYBRID_SHARD"] = "FULL_SHARD") -> None:
        super().__init__(sharding_strategy=sharding, state_dict_type="full")

    @property
    def mixed_precision_config(self) -> MixedPrecision | None:
        """What the wrapper computes in; Lightning's own would also sum gradients in 16 bits."""
        if self.precision_plugin.precision == "bf16-mixed":
            return MixedPrecision(torch.bfloat16, torch.float32, torch.float32)
        return None

    def setup(self, trainer: Trainer) -> None:
        """Wraps the module, and has gradients clipped by the wrapper, which alone knows their whole norm."""
        super().setup(trainer)

        def clip(_: Optimizer, clip_val: float) -> None:
            wrapper: Any = self.model
            wrapper.clip_grad_norm_(clip_val)

        untyped: Any = self.precision_plugin
        untyped.clip_grad_by_norm = clip

    def _setup_model(self, model: nn.Module) -> nn.Module:
        root = self._root()
        backbone = root.backbone if isinstance(self.lightning_module, MPRMModule) else root
        layers = {id(layer) for layer in decoder_layers(backbone)}
        wrapper = FullyShardedDataParallel(
            model,
            device_id=self.root_device,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            auto_wrap_policy=partial(lambda_auto_wrap_policy, lambda_fn=lambda module: id(module) in layers),
            use_orig_params=True,
        )
        link_wrapper(root, wrapper)
        return wrapper

    def _root(self) -> Any:
        module = self.lightning_module
        if isinstance(module, PolicyModule):
            return module.policy
        if isinstance(module, MPRMModule):
            return module.scorer
        raise ConfigError(f"FSDP1Strategy trains a PolicyModule or an MPRMModule, not a {type(module).__name__}.")

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """All weights, in the main process."""
        prefix = "model" if isinstance(self.lightning_module, PolicyModule) else "scorer"
        return {f"{prefix}.{name}": value for name, value in gather_state(self._root()).items()}

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """The module's step; with whole weights not through the wrapper, which would refuse."""
        output: STEP_OUTPUT = self._evaluate("validation_step", *args, **kwargs)
        return output

    def test_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """As ``validation_step``."""
        output: STEP_OUTPUT = self._evaluate("test_step", *args, **kwargs)
        return output

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """As ``validation_step``."""
        return self._evaluate("predict_step", *args, **kwargs)

    def _evaluate(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if is_whole(self._root()):
            return getattr(self.lightning_module, name)(*args, **kwargs)
        return getattr(super(), name)(*args, **kwargs)
