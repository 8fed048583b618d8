"""Settings of every test process and of the processes that tests start; they must precede the first import of torch."""

from __future__ import annotations

import os

# Nothing in the tests may reach the network; HF_HUB_OFFLINE=0 lets the GPU tests fetch a real model.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# One thread a process: the models are tiny, pytest-xdist fills the cores, and the order of sums stays the same.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
