"""Weights that are split over processes (FSDP2): splitting them, and having them whole where that is needed.

Every function takes a plain model too and then does the plain thing, so that callers need not ask. Those marked
"collective" exchange weights: all processes must call them together, and none may skip them.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.weak import WeakTensorKeyDictionary

from mstar.distributed import is_main
from mstar.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")

# The sharded weights of modules that whole_weights shows as whole ones, which may be of lower precision.
_parts: WeakKeyDictionary[nn.Module, dict[str, Tensor]] = WeakKeyDictionary()


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's weights are split by ``shard``."""
    return isinstance(model, FSDPModule)


def shard(
    root: nn.Module,
    mesh: DeviceMesh,
    *,
    backbone: nn.Module | None = None,
    exact: Sequence[nn.Module] = (),
    mixed_precision: bool = False,
    widen: bool = False,
) -> None:
    """Splits a model's weights, gradients and optimizer states over the processes of a mesh (FSDP2), in place.

    Each decoder layer is one unit, whole only while it computes. All the rest is the root's: a vision tower is idle in
    a batch without pictures, and a unit that some processes use and others do not would make them wait for ever.
    Weights that a batch left out get a gradient of 0, so that processes add up the same ones; and so do those that
    nothing uses, such as the last layer of a vision tower that is read before it, since a checkpoint whose optimizer
    lacks a state cannot be loaded (torch 2.13, lightning 2.6).

    Args:
        root: The model; it must be called through its own ``forward`` or ``inside_forward``.
        mesh: The processes, in one dimension.
        backbone: The vision-language model in ``root``; by default ``root`` itself.
        exact: Parts that compute in their own precision even with ``mixed_precision``.
        mixed_precision: Compute in bfloat16; the weights and the sums of gradients stay in float32.
        widen: Whether 16-bit weights become float32, one unit after another: of a model from ``load_stored`` a process
            holds its part and one whole unit at most.

    Raises:
        ConfigError: the model holds quantised weights, or has no stack of layers.
    """
    if not all(parameter.is_floating_point() for parameter in root.parameters()):
        raise ConfigError("quantised weights cannot be sharded: switch the quantisation off, or train with DDP.")
    policy = MixedPrecisionPolicy()
    if mixed_precision:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    backbone = root if backbone is None else backbone
    layers = decoder_layers(backbone)
    for layer in layers:
        _take(layer, mesh, widen)
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    layers[0].register_forward_pre_hook(_want_gradient, prepend=True, with_kwargs=True)
    for part in exact:
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    _take(backbone, mesh, widen)
    # The root's weights are needed again at once, in the backward pass.
    fully_shard(root, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    untyped: Any = root
    untyped.set_reduce_scatter_unused_params(True)
    untyped.run_inside_forward = MethodType(_call, root)
    register_fsdp_forward_method(root, "run_inside_forward")


def _want_gradient(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Has every backward pass go through all of the layers, and end in them, whatever else is trained.

    With frozen embeddings it else goes on behind the first one only where there are pictures, and the processes would
    exchange the gradients of that layer and of the root in different orders.
    """
    if torch.is_grad_enabled():
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        hidden.requires_grad_()


def _take(unit: nn.Module, mesh: DeviceMesh, widen: bool) -> None:
    device = torch.device("cuda", torch.cuda.current_device()) if mesh.device_type == "cuda" else None
    for parameter in unit.parameters():
        # What has been split before is a part.
        if not isinstance(parameter, DTensor):
            parameter.data = parameter.data.to(device, torch.float32 if widen else None)


def _call(_: nn.Module, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


def decoder_layers(backbone: Any) -> list[nn.Module]:
    """The language model's layers: its largest list of modules of one class.

    Raises:
        ConfigError: it has no such list.
    """
    decoder: nn.Module = backbone.get_decoder() if hasattr(backbone, "get_decoder") else backbone
    stacks = [m for m in decoder.modules() if isinstance(m, nn.ModuleList) and len({type(layer) for layer in m}) == 1]
    if not stacks:
        raise ConfigError(f"{type(backbone).__name__} has no stack of layers, so it cannot be sharded: train with DDP.")
    largest: nn.ModuleList = max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()))
    return list(largest)


def inside_forward(root: nn.Module, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function as if it were the root's ``forward``: what it does with parts of the model then just works.

    Raises:
        RuntimeError: a gradient is wanted within ``whole_weights``, which the processes would wait for without end.
    """
    if not isinstance(root, FSDPModule):
        return function(*args, **kwargs)
    if root in _parts and torch.is_grad_enabled():
        raise RuntimeError("weights that whole_weights has put together cannot be trained: leave it first.")
    untyped: Any = root
    result: T = untyped.run_inside_forward(function, *args, **kwargs)
    if not torch.is_grad_enabled():
        # No backward pass will split the root's weights again, and an optimizer must never be given the whole ones.
        untyped.reset_iter_state()
    return result


@contextmanager
def whole_weights(root: nn.Module) -> Iterator[None]:
    """Every process holds all of the weights within this context, so that each can compute on its own. Collective.

    Generation needs it: responses differ in length, and so do the numbers of forward passes of the processes.
    """
    if not isinstance(root, FSDPModule):
        yield
        return
    units = [module for module in root.modules() if isinstance(module, FSDPModule)]
    for module in root.modules():
        _parts[module] = dict(module.named_parameters(recurse=False))
    # Tensors that are made in inference mode could not be trained with afterwards.
    with torch.inference_mode(False), torch.no_grad():
        # The first forward pass settles which unit is the root; a layer must not come first.
        untyped: Any = root
        untyped.run_inside_forward(lambda: None)
        for unit in units:
            unit.unshard()
            unit.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        # Of a process that ends within the context, not much is there any more by then.
        if not sys.is_finalizing():
            for module in root.modules():
                del _parts[module]
            for unit in units:
                unit.set_reshard_after_forward(unit is not root, recurse=False)
            # It splits the weights again, and forgets the forward passes: the backward pass fetches units in the order
            # of those, and the processes, with as many as each had, would fetch different ones and wait for ever.
            untyped.reset_iter_state()


def full_state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The names and whole tensors of a model's state, one after another, the same in every process. Collective.

    Names are those of ``state_dict``, tied weights under each of their names. The tensors are on the model's device;
    those of a plain model are its own, not copies. Of a sharded model one is whole at a time.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module
    for module in model.modules():
        if isinstance(module, FSDPModule) and module not in _parts:
            # A forward pass without a backward pass leaves the root's weights whole, perhaps in bfloat16.
            module.reshard()
    uses = Counter(id(value) for _, value in _entries(model))
    tied: dict[int, Tensor] = {}
    for name, value in _entries(model):
        whole = tied.get(id(value))
        if whole is None:
            whole = value.detach()
            whole = whole.full_tensor() if isinstance(whole, DTensor) else whole
        if uses[id(value)] > 1:
            tied[id(value)] = whole
        yield name, whole


def _entries(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    # Not state_dict: it would take the weights apart that whole_weights has put together.
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        parts = _parts.get(module, {})
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield prefix + name, parts.get(name, parameter)
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            if name not in module._non_persistent_buffers_set:
                yield prefix + name, buffer


def gather_state(model: nn.Module, dtype: torch.dtype | None = None, exact: Sequence[str] = ()) -> dict[str, Tensor]:
    """``full_state`` in the main process's memory, off the device; the other processes get nothing. Collective.

    Args:
        dtype: Type that the floating-point tensors get; None for their own.
        exact: Beginnings of the names of those that keep their own.
    """
    state: dict[str, Tensor] = {}
    copies = WeakTensorKeyDictionary()
    for name, value in full_state(model):
        if is_main():
            own = dtype is None or not value.is_floating_point() or name.startswith(tuple(exact))
            if value not in copies:
                copies[value] = value.to("cpu", value.dtype if own else dtype, copy=True)
            # Tied weights stay tied.
            state[name] = copies[value]
    return state


def load_full_state(model: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Sets a model's weights from whole tensors, which every process has.

    Args:
        model: A plain model, or one that ``shard`` was applied to.
        state: A whole tensor for every name of ``state_dict``.
        strict: Whether every weight must be there; otherwise one that is not stays as it is.

    Raises:
        ConfigError: the names are not those of a sharded model.
    """
    own_state = model.state_dict(keep_vars=True)
    if not any(isinstance(own, DTensor) for own in own_state.values()):
        model.load_state_dict(state, strict=strict)
        return
    if different := own_state.keys() ^ state.keys() if strict else state.keys() - own_state.keys():
        raise ConfigError(f"the weights are not those of this model: '{min(different)}' is in only one of the two.")
    with torch.no_grad():
        for name in state:
            own = own_state[name]
            value = state[name].to(own.device, own.dtype)
            if isinstance(own, DTensor):
                # Each process cuts its part from its own copy: nothing is sent.
                value = distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
            own.copy_(value)


def load_distributed(model: nn.Module, folder: Path) -> None:
    """Sets a plain model's weights from a distributed checkpoint, alone, whatever number of processes wrote it.

    Args:
        model: A plain model whose weights have the names of the checkpoint's ``state_dict``.
        folder: The checkpoint; its index is a pickle, so it must come from a trusted source.
    """
    state = {"state_dict": model.state_dict()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(state, checkpoint_id=folder, no_dist=True)
    model.load_state_dict(state["state_dict"])
