"""FSDP1, the older way of splitting weights: having them whole. ``sharding`` is what the rest of the package calls.

FSDP1 wraps the whole LightningModule, and its layers beneath; a model within it is linked to that wrapper here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from weakref import ReferenceType, WeakKeyDictionary, WeakSet, ref

from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

__all__ = ["WRAPPER", "is_whole", "is_wrapped", "link_wrapper", "summoned", "unwrapped"]

# What a wrapper adds to the names of the weights within it.
WRAPPER: Final = "_fsdp_wrapped_module."

_wrappers: WeakKeyDictionary[nn.Module, ReferenceType[FullyShardedDataParallel]] = WeakKeyDictionary()
_whole: WeakSet[nn.Module] = WeakSet()


def link_wrapper(model: nn.Module, wrapper: FullyShardedDataParallel) -> None:
    """Notes which wrapper holds the weights of a model."""
    _wrappers[model] = ref(wrapper)


def is_wrapped(model: nn.Module) -> bool:
    """Whether the model is within a wrapper."""
    return model in _wrappers


def is_whole(model: nn.Module) -> bool:
    """Whether this is within ``unwrapped``."""
    return model in _whole


@contextmanager
def summoned(model: nn.Module, *, write: bool = False) -> Iterator[None]:
    """Within it the weights of a wrapped model are whole, to be read or written; nothing for others. Collective."""
    wrapper = _wrappers[model]() if is_wrapped(model) and not is_whole(model) else None
    if wrapper is None:
        yield
        return
    with FullyShardedDataParallel.summon_full_params(wrapper, writeback=write):
        yield


@contextmanager
def unwrapped(model: nn.Module) -> Iterator[None]:
    """Within it a wrapped model is a plain one with all of its weights, that computes on its own. Collective."""
    with summoned(model):
        # A wrapped layer refuses to compute while its weights are whole; the layer in the wrapper does not.
        layers = [
            (parent, name, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if isinstance(child, FullyShardedDataParallel)
        ]
        for parent, name, child in layers:
            setattr(parent, name, child.module)
        _whole.add(model)
        try:
            yield
        finally:
            _whole.discard(model)
            for parent, name, child in layers:
                setattr(parent, name, child)
