"""The process itself: what it takes before any model, and how much memory there is for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import torch

# Code that PyTorch loads when it first computes, measured on x86-64 with torch 2.13.
CPU_LIBRARIES: Final = 60 * 10**6
# Context, cuBLAS's workspaces and loaded kernels; an estimate.
CUDA_CONTEXT: Final = 1_200 * 10**6


def resident_bytes() -> int:
    """What this process holds now (Linux; elsewhere a typical value of a process with PyTorch and Transformers)."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except (OSError, IndexError, ValueError):
        return 450 * 10**6


def machine_bytes() -> int:
    """Memory that this process may have at most: the machine's, or its control group's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    group = limit.read_text(encoding="ascii").strip() if limit.is_file() else ""
    return min(machine, int(group)) if group.isdigit() else machine


def card_bytes() -> int | None:
    """Memory of the present GPU; None without one."""
    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.mem_get_info()[1])
