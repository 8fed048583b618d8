"""Weights on their way through a folder that servers see: files, and a fingerprint of all that is in them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mstar.distributed import from_main, is_main
from mstar.errors import StorageError
from mstar.generation.vllm_weights import checkpoint_weights

# Bytes of a file, and so of what is in the main memory at a time.
_FILE_SIZE: Final = 2 * 2**30
_PREFIX: Final = "mstar-weights-"


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


def read_weights(folder: Path, found: WeightsFingerprint | None = None) -> Iterator[tuple[str, Tensor]]:
    """Every weight of a folder with its name, one after another; ``found`` takes them in."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                value = file.get_tensor(name)
                if found is not None:
                    found.add(name, value)
                yield name, value


class WeightFolder:
    """A folder of a run's own in a folder that servers see: the present weights, under the name of their fingerprint.

    Collective for several processes, as all of its methods.

    Args:
        shared: The folder that they see; it is made if it isn't there.
        kept: Weights that an earlier process left (its ``current``), whose folder is taken over.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, shared: Path, kept: Path | None = None) -> None:
        made = ""
        self.version = "" if kept is None else kept.name
        if kept is not None:
            self.root = kept.parent
            return
        if is_main():
            try:
                shared.mkdir(parents=True, exist_ok=True)
                made = mkdtemp(prefix=_PREFIX, dir=shared.resolve())
                # The servers may be another user's.
                Path(made).chmod(0o755)
            except OSError as error:
                raise StorageError(
                    f"VllmServerEngine: the shared_folder '{shared}' cannot be written ({error.strerror}): name a "
                    "folder that this machine can write and the servers can read."
                ) from error
        self.root = Path(from_main(made))

    @property
    def current(self) -> Path:
        """Where the present weights are."""
        return self.root / self.version

    def write(self, policy: nn.Module, dtype: torch.dtype) -> None:
        """Writes the policy's present weights.

        Raises:
            StorageError: they cannot be written.
        """
        weights = checkpoint_weights(policy, dtype=dtype)
        if is_main():
            new = self.root / "new"
            try:
                shutil.rmtree(new, ignore_errors=True)
                new.mkdir(mode=0o755)
                self.version = str(write_weights(weights, new, dtype))
                if self.current.exists():
                    shutil.rmtree(new)
                else:
                    new.rename(self.current)
            except (OSError, SafetensorError) as error:
                raise StorageError(
                    f"VllmServerEngine: the weights cannot be written to the shared_folder '{self.root.parent}' "
                    f"({error}): make room for them there, twice."
                ) from error
        else:
            for _ in weights:
                pass
        self.version = from_main(self.version)

    def read_again(self) -> bool:
        """Whether what is there is whole: the weights that its name says."""
        whole, found = False, WeightsFingerprint()
        # A folder of another name is nobody's to delete.
        if is_main() and self.root.name.startswith(_PREFIX):
            try:
                for _ in read_weights(self.current, found):
                    pass
                whole = str(found) == self.version
            except (OSError, SafetensorError):
                pass
        return from_main(whole)

    def delete_others(self) -> None:
        """Deletes earlier weights."""
        if is_main():
            for folder in self.root.iterdir():
                if folder != self.current:
                    shutil.rmtree(folder, ignore_errors=True)

    def delete(self) -> None:
        """Deletes the folder."""
        if is_main():
            shutil.rmtree(self.root, ignore_errors=True)
