"""The machine that a report is about: card, driver, versions, commit."""

from __future__ import annotations

import platform
import re
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

__all__ = ["commit", "describe", "file_name", "peak_flops"]

# Dense bfloat16 products with float32 sums, in FLOP/s, from NVIDIA's data sheets (the figures with sparsity halved).
# The first name that the card's contains counts: the longer one stands before the shorter one.
_PEAKS: Final = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("GH200", 989e12),
    ("H100", 989e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("H20", 148e12),
    ("GB200", 2.5e15),
    ("B200", 2.25e15),
    ("A100", 312e12),
    ("A800", 312e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("A40", 150e12),
    ("RTX A6000", 155e12),
    ("RTX 6000 Ada", 364e12),
    ("RTX 5090", 210e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
)
_PACKAGES: Final = ("torch", "transformers", "lightning", "peft", "bitsandbytes", "liger-kernel", "flash-attn", "vllm")


def peak_flops(card: str) -> float | None:
    """The card's highest rate in bfloat16, FLOP/s; None for a card that is not known."""
    return next((peak for name, peak in _PEAKS if re.search(rf"\b{re.escape(name)}\b", card)), None)


def describe(device: str, command: str) -> dict[str, str]:
    """What the head of a report says.

    Args:
        device: cpu or cuda.
        command: The command that was run.
    """
    import torch

    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        card, memory = properties.name, f"{properties.total_memory / 1e9:.1f} GB"
        driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()
    else:
        card, memory, driver = "CPU", "", []
    found: Mapping[str, str] = {
        "card": card,
        "memory": memory,
        "driver": driver[0] if driver else "",
        "cuda": str(torch.version.cuda or ""),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": command,
    }
    return {name: value for name, value in found.items() if value}


def commit() -> str:
    """The checkout's commit, and whether files differ from it."""
    found = _output("git", "rev-parse", "HEAD").strip()
    return f"{found[:12]}{' with changes' if _output('git', 'status', '--porcelain') else ''}" if found else "unknown"


def file_name(card: str, date: str) -> str:
    """The report's file name, without an ending."""
    plain = re.sub(r"[^a-z0-9]+", "-", card.lower().replace("nvidia", "")).strip("-")
    return f"{plain or 'unknown'}-{date}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _output(*command: str) -> str:
    """What a program prints; nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
