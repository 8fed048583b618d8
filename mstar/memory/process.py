"""The process itself: what it takes before any model, and how much memory there is for it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch

# Code that PyTorch loads when it first computes, measured on x86-64 with torch 2.13.
CPU_LIBRARIES: Final = 60 * 10**6
# Context, cuBLAS's workspaces and loaded kernels; an estimate.
CUDA_CONTEXT: Final = 1_200 * 10**6

# By the kind of the control groups: where they are, and the file of the most memory ("max": no limit).
_LIMITS: Final = {"": ("", "memory.max"), "memory": ("memory", "memory.limit_in_bytes")}


def resident_bytes() -> int:
    """What this process holds now (Linux; elsewhere a typical value of a process with PyTorch and Transformers)."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 450 * 10**6


def machine_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may have at most: the machine's, or that of its control group or one above it."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, name = line.split(":", 2)
            # Of the second version there is one hierarchy, of the first one for each kind.
            if kinds in _LIMITS:
                # In a container the group may have the host's name, and stand at the top.
                for group in (path := Path(name.lstrip("/")), *path.parents):
                    folder, file = _LIMITS[kinds]
                    with suppress(OSError, ValueError):
                        limits.append(int((root / "sys/fs/cgroup" / folder / group / file).read_text(encoding="ascii")))
    return min(limits)


def card_bytes() -> int | None:
    """Memory of the present GPU; None without one."""
    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.mem_get_info()[1])
