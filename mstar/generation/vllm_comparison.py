"""The weights that vLLM computes with, read back and compared with the trainer's, each exactly.

vLLM renames and fuses layers, pads the vocabulary, splits layers over GPUs, and on a CPU packs them beyond reading. The
names follow from the two tables that its models have for checkpoints and adapters; what a packed layer holds it tells
when it is given the unit vectors: a sum with one term is exact in any arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from mstar.models.sharding import full_state

# Elements that are cast and compared at a time: an embedding would need a copy of its own size.
_CHUNK: Final = 2**24
_UNIT_VECTORS: Final = 512
_FUSED: Final = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


class HeldWeights:
    """What a vLLM model holds, by the names of a checkpoint."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        mapper: Any = getattr(model, "hf_to_vllm_mapper", None)
        self._rename = None if mapper is None else mapper.get_rename_mapper().map_name
        # Not every family's own class says what its language model fuses.
        self._fused = dict(_FUSED)
        for part in model.modules():
            self._fused |= getattr(part, "packed_modules_mapping", {})
        named: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
        # With adapters the layer itself is within one of vLLM's, under the same name.
        self._modules = {path: named.get(f"{path}.base_layer", module) for path, module in named.items()}
        self._adapted = {path: module for path, module in named.items() if hasattr(module, "lora_a_stacked")}
        self.dtype = dtype
        self._read: dict[tuple[int, str], set[int | None]] = {}

    def find(self, name: str) -> Iterator[tuple[Tensor, nn.Module]]:
        """What vLLM holds of a weight, and the module that has it; twice where there is a packed copy too."""
        place = self._place(name, self._modules)
        if place is None:
            return
        module, kind, part = place
        untyped: Any = module
        held = [getattr(module, kind, None)]
        if kind == "weight" and hasattr(module, "cpu_linear"):
            held.append(self._unpack(module))
        for value in held:
            if isinstance(value, Tensor) and value.numel() > 0:
                if part is not None:
                    value = torch.split(value, [size // untyped.tp_size for size in untyped.output_sizes])[part]
                self._read.setdefault((id(module), kind), set()).add(part)
                yield value, module

    def lacks(self, name: str) -> bool:
        """Whether vLLM has the layer of a weight but not the weight, as it may be with biases."""
        place = self._place(name, self._modules)
        return place is not None and not isinstance(getattr(place[0], place[1], None), Tensor)

    def find_adapter(self, name: str, rank: int) -> Tensor | None:
        """The matrix of an adapter, or None.

        Args:
            name: Its name in the policy, e.g. ``....q_proj.lora_A.default.weight``.
        """
        path, _, rest = name.partition(".lora_")
        place = self._place(f"{path}.weight", self._adapted)
        if place is None:
            return None
        module: Any = place[0]
        part = place[2] or 0
        if rest[0] == "A":
            return module.lora_a_stacked[part][0, 0, :rank]  # type: ignore[no-any-return]
        return module.lora_b_stacked[part][0, 0, :, :rank]  # type: ignore[no-any-return]

    def unread(self) -> list[str]:
        """The parameters that ``find`` has not shown, or not whole."""
        names = []
        for path, module in self._modules.items():
            parts = len(getattr(module, "output_sizes", ()))
            for kind, _ in module.named_parameters(recurse=False):
                seen = self._read.get((id(module), kind), set())
                if None not in seen and len(seen) < max(parts, 1):
                    names.append(f"{path}.{kind}")
        return names

    def _place(self, name: str, modules: dict[str, nn.Module]) -> tuple[nn.Module, str, int | None] | None:
        """The module that has a weight, its name there, and the number of its part if it is fused with others."""
        renamed = name if self._rename is None else self._rename(name)
        path, _, kind = (renamed or "").rpartition(".")
        if path in modules:
            return modules[path], kind, None
        parent, _, last = path.rpartition(".")
        for fused, parts in self._fused.items():
            module = modules.get(f"{parent}.{fused}")
            if module is not None and last in parts:
                return module, kind, parts.index(last)
        return None

    def _unpack(self, module: Any) -> Tensor:
        width = getattr(module, "input_size_per_partition", None) or getattr(module, "embedding_dim", None)
        units = torch.eye(width or module.input_size, dtype=self.dtype)
        columns = [module.cpu_linear(some, module.weight, None) for some in torch.split(units, _UNIT_VECTORS)]
        return torch.cat(columns).T


def compare_named(held: HeldWeights, weights: Iterable[tuple[str, Tensor]]) -> tuple[int, list[str]]:
    """Compares all weights that vLLM holds with given ones, cast to vLLM's type.

    Returns:
        How many tensors were compared, and the names of those that are not equal.
    """
    compared, different = 0, []
    with torch.no_grad():
        for name, ours in weights:
            pairs = [(_own_part(ours, theirs, module), theirs) for theirs, module in held.find(name)]
            readable = [(own, theirs) for own, theirs in pairs if own is not None]
            compared += bool(readable)
            left_out = held.lacks(name) and bool(ours.any())
            if left_out or not all(_equal(own, theirs, held.dtype) for own, theirs in readable):
                different.append(name)
    return compared, different


def compare_adapters(held: HeldWeights, policy: nn.Module) -> tuple[int, list[str]]:
    """Compares the adapters that vLLM holds beside its weights with the policy's. Collective for a sharded policy.

    Returns:
        How many matrices were compared, and the names of those that are not the policy's or have no place in vLLM.
    """
    modules = dict(policy.named_modules())
    compared, different = 0, []
    with torch.no_grad():
        for name, ours in full_state(policy):
            path, is_adapter, rest = name.partition(".lora_")
            if not is_adapter:
                continue
            layer: Any = modules[path]
            adapter = rest.split(".")[1]
            theirs = held.find_adapter(name, layer.r[adapter])
            own = ours.to(held.dtype)
            if rest[0] == "B":
                own = own * layer.scaling[adapter]
            part = None if theirs is None else _narrow(own, theirs, layer)
            compared += part is not None
            if theirs is None or (part is not None and not _equal(part, theirs, held.dtype)):
                different.append(name)
    return compared, different


def _own_part(whole: Tensor, held: Tensor, module: nn.Module) -> Tensor | None:
    """What of a whole weight this process holds, in the shape that it has there; None if that is not known."""
    rows: Any = getattr(module, "shard_indices", None)
    if rows is not None:
        whole = whole[rows.org_vocab_start_index : rows.org_vocab_end_index]
        # Behind them are rows that only fill up.
        return whole if whole.shape[1:] == held.shape[1:] and len(whole) <= len(held) else None
    size, sizes = getattr(module, "tp_size", 1), list(getattr(module, "output_sizes", ()))
    if size > 1 and len(sizes) > 1 and len(whole) == sum(sizes) == size * len(held):
        # Fused in the checkpoint, too (the vision towers of Qwen2.5-VL and Qwen3-VL): each part is split by itself.
        parts = zip(torch.split(whole, sizes), torch.split(held, [n // size for n in sizes]), strict=True)
        own = [part for ours, theirs in parts if (part := _narrow(ours, theirs, module)) is not None]
        return torch.cat(own) if len(own) == len(sizes) else None
    return _narrow(whole, held, module)


def _narrow(whole: Tensor, held: Tensor, module: Any) -> Tensor | None:
    size, number = getattr(module, "tp_size", 1), getattr(module, "tp_rank", 0)
    if size > 1 and whole.dim() == held.dim():
        for dim, (ours, theirs) in enumerate(zip(whole.shape, held.shape, strict=True)):
            if ours > theirs and ours % theirs == 0:
                # Fewer parts than processes: some hold the same (heads of keys and values).
                whole = whole.narrow(dim, number * (ours // theirs) // size * theirs, theirs)
    return whole.reshape(held.shape) if whole.numel() == held.numel() else None


def _equal(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors are equal once both are cast; what is in neither a number is equal too."""
    rows = max(_CHUNK // max(ours[:1].numel(), 1), 1) if ours.dim() else 1
    pairs: Iterable[tuple[Tensor, Tensor]] = [(ours, theirs)]
    if ours.dim():
        pairs = zip(torch.split(ours, rows), torch.split(theirs[: len(ours)], rows), strict=True)
    return all(_equal_chunk(a.to(theirs.device, dtype), b.to(dtype)) for a, b in pairs)


def _equal_chunk(ours: Tensor, theirs: Tensor) -> bool:
    return torch.equal(ours, theirs) or bool(((ours == theirs) | (ours.isnan() & theirs.isnan())).all())
