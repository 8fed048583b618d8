"""The folder through which weights go to servers: the present ones, under the name of their fingerprint."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import torch
from safetensors import SafetensorError
from torch import nn

from mstar.distributed import from_main, is_main
from mstar.errors import StorageError
from mstar.generation.vllm_weights import checkpoint_weights
from mstar.generation.weight_files import WeightsFingerprint, read_weights, write_weights

_PREFIX: Final = "mstar-weights-"


class WeightFolder:
    """A folder of a run's own in a folder that servers see. Collective for several processes, as all of its methods.

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

    def as_seen_from(self, root: str | None) -> str:
        """The path of the present weights on the servers.

        Args:
            root: Where they see the shared folder; None where this machine does.
        """
        return str(self.current if root is None else Path(root, self.root.name, self.version))

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
                for name, value in read_weights(self.current):
                    found.add(name, value)
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
