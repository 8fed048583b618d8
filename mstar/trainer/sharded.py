"""The FSDP2 strategy: every process holds a part of the model, of its gradients and of the optimizer's state."""

from __future__ import annotations

from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from mstar.errors import ConfigError
from mstar.models.sharding import load_full_state


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all processes (``trainer.devices`` times ``trainer.num_nodes``); NCCL on GPUs, gloo on CPUs.

    With ``trainer.precision: bf16-mixed`` the model computes in bfloat16 and its weights stay in float32. A run may go
    on with another number of processes than it began with, from either kind of checkpoint; the folder kind needs this
    strategy then too, also for a single process.

    Args:
        save_distributed_checkpoint: Whether a checkpoint is a folder to which every process writes its part. Otherwise
            it is one file, put together in the main process's memory, that runs without sharding load too.
        timeout: How long a training step waits for a process that hangs (h:mm:ss).
    """

    def __init__(
        self,
        save_distributed_checkpoint: bool = True,
        timeout: timedelta = timedelta(minutes=30),
    ) -> None:
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=save_distributed_checkpoint, timeout=timeout
        )

    def setup_environment(self) -> None:
        """Starts the process group; all processes are one data-parallel group."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Prepares the model; nothing is evaluated in inference mode, in which FSDP2 on one process cannot work."""
        for loop in (trainer.validate_loop, trainer.test_loop):
            loop.inference_mode = False
        trainer.predict_loop.inference_mode = False
        super().setup(trainer)

    def load_checkpoint(self, checkpoint_path: str | PathLike[str], weights_only: bool | None = None) -> dict[str, Any]:
        """Loads either kind of checkpoint, whatever strategy and number of processes wrote it.

        Raises:
            ConfigError: the checkpoint's weights are not those of the model.
        """
        path = Path(self.broadcast(str(checkpoint_path)))
        if path.is_dir():
            return super().load_checkpoint(path, weights_only)
        # Lightning numbers the optimizer's states by all weights, frozen ones included, which a run without sharding
        # does not (lightning 2.6). Mapped into memory: the processes share it, and read only what they need.
        content: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        assert self.lightning_module is not None  # noqa: S101 - a checkpoint is loaded after the setup
        load_full_state(self.lightning_module, content.pop("state_dict"), strict=self.lightning_module.strict_loading)
        states = content.pop("optimizer_states", [])
        if self.optimizers and len(states) != len(self.optimizers):
            raise ConfigError(f"checkpoint '{path}' has no optimizer state, so the run cannot go on from it.")
        for optimizer, state in zip(self.optimizers, states, strict=False):
            load_whole_optimizer(optimizer, state)
        return content


def load_whole_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Loads a state with whole tensors into an optimizer of sharded weights.

    Args:
        state: The ``state_dict`` of an optimizer of the same groups of weights, which may have numbered them otherwise.
    """
    sharded = {}
    for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        for number, parameter in zip(saved["params"], own["params"], strict=True):
            entries = state["state"].get(number, {})
            sharded[number] = {name: _like(value, parameter) for name, value in entries.items()}
    optimizer.load_state_dict({"state": sharded, "param_groups": state["param_groups"]})


def _like(value: Any, parameter: Tensor) -> Any:
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    whole = value.to(parameter.device)
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
