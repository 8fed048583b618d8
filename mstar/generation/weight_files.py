"""Weights on their way through a shared folder: safetensors files, and a fingerprint of all that is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

# Bytes of a file, and so of what is in the main memory at a time.
_FILE_SIZE: Final = 2 * 2**30


class WeightsFingerprint:
    """A hash of names, types, shapes and values of weights, whatever order they come in."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Takes in a weight."""
        digest = hashlib.blake2b(f"{value.dtype} {list(value.shape)}\n".encode(), digest_size=8)
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self.digests[name] = digest.hexdigest()

    def __str__(self) -> str:
        lines = (f"{name} {digest}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.blake2b("".join(lines).encode(), digest_size=8).hexdigest()


def write_weights(
    weights: Iterable[tuple[str, Tensor]], folder: Path, dtype: torch.dtype, size: int = _FILE_SIZE
) -> WeightsFingerprint:
    """Writes weights, a file after another, so that they are never all in the main memory.

    Args:
        folder: A new folder, which is to be read by others.
        dtype: What the servers compute in.
        size: Bytes of a file, unless a single weight has more.

    Returns:
        The fingerprint of what was written.
    """
    fingerprint = WeightsFingerprint()
    part: dict[str, Tensor] = {}
    number = held = 0

    def write() -> None:
        path = folder / f"weights-{number:05d}.safetensors"
        save_file(part, path)
        # Safetensors makes files that their owner alone can read.
        path.chmod(0o644)

    for name, value in weights:
        # Whole numbers stay as they are. A copy: weights that share memory cannot be written.
        own = value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype)
        own = own.clone(memory_format=torch.contiguous_format)
        if part and held + own.nbytes > size:
            write()
            part, held, number = {}, 0, number + 1
        part[name] = own
        held += own.nbytes
        fingerprint.add(name, own)
    write()
    return fingerprint


def read_weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every weight of a folder with its name, one after another."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                yield name, file.get_tensor(name)
