"""Runs one part in a process of its own: ``-m benchmarks.gpu_report.worker NAME DEVICE small|real ROWS SCRATCH``."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import lightning.pytorch  # noqa: F401 - it sets its logger's level when it is imported
import torch

from benchmarks.gpu_report.bench import Bench
from benchmarks.gpu_report.catalogue import run_part


def main(name: str, device: str, size: str, rows: str, scratch: str) -> int:
    """Runs the part; what goes wrong outside its rows ends the process, and the report has the error's last line."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning's advice about loaders, which measurements on purpose have without worker processes.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    if device == "cuda":
        torch.cuda.init()
    run_part(name, Bench(device, size == "small", Path(rows), Path(scratch)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
