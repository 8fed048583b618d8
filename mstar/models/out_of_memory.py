"""Work that is done in smaller parts when the memory is not enough for it."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory", "release_memory"]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the memory of the device, or of the machine, was not enough."""
    # On a CPU, Torch raises no class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release_memory() -> None:
    """Gives back what the allocator holds unused; not within the handler of an error, which still holds tensors."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
