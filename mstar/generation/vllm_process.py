"""vLLM in this process: its steps, and what it would do to the trainer, which lives there too, undone."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from mstar.distributed import rank, world_size
from mstar.errors import ConfigError
from mstar.generation.progress import RequestWatch, ResponseBar
from mstar.interruption import stop_if_asked


def prepare_environment() -> None:
    """Sets what vLLM reads from the environment; to be called before it is imported."""
    # In this process, so that weights can be handed over as they are.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if world_size() > 1:  # set by torchrun, but not by every launcher
        os.environ.setdefault("RANK", str(rank()))
        os.environ.setdefault("LOCAL_RANK", str(torch.cuda.current_device() if torch.cuda.is_available() else 0))


def require_same_device(device: torch.device) -> None:
    """Makes sure that vLLM computes where the policy is; after ``prepare_environment`` (else ``ConfigError``).

    It takes the GPU of the process's number on its machine and makes it the current one, for the trainer too.
    """
    number = int(os.environ["LOCAL_RANK"]) if world_size() > 1 else 0
    if device.type == "cuda" and device.index not in (None, number):
        raise ConfigError(
            f"VllmEngine: vLLM would run on GPU {number} of those that this process sees, but the policy is on "
            f"{device}: choose the GPUs with CUDA_VISIBLE_DEVICES, and set trainer.devices to their number."
        )


@contextmanager
def keeping_process_state() -> Iterator[None]:
    """Around vLLM's start: it seeds the random generators and forbids TF32 or, on a CPU, another number of threads."""
    set_num_threads, num_threads = torch.set_num_threads, torch.get_num_threads()
    python, numbers = random.getstate(), np.random.get_state()
    products = torch.get_float32_matmul_precision()
    # The seeds of the present device alone: vLLM has no other.
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
            torch.set_num_threads = set_num_threads
            torch.set_num_threads(num_threads)
            torch.set_float32_matmul_precision(products)


@contextmanager
def keeping_process_group(keep: bool) -> Iterator[None]:
    """Around vLLM's end: it ends the process group, even where the trainer made it and still needs it."""
    destroy = dist.destroy_process_group

    def destroy_own(group: Any = None) -> None:
        if group is not None and group is not dist.group.WORLD:
            destroy(group)

    if keep:
        dist.destroy_process_group = destroy_own
    try:
        yield
    finally:
        dist.destroy_process_group = destroy


def work_off(
    engine: Any,
    accepted: Sequence[str],
    more: Iterator[bool],
    bar: ResponseBar | None,
    *,
    max_num_seqs: int,
    may_stop: bool,
) -> Iterator[tuple[int, Any]]:
    """Runs vLLM until nothing is left.

    Each result is handed on as soon as it is there: with its log-probabilities it takes many times the memory of the
    response in it.

    Args:
        engine: vLLM's ``LLMEngine``.
        accepted: The keys of the requests that were handed over; ``more`` makes it longer.
        more: Hands over one more request each time, while vLLM computes its last step on a GPU.
        max_num_seqs: Most responses that vLLM writes at the same time. Twice as many are handed over ahead: it never
            lacks one, and writes the same ones together as if it had all from the beginning.
        may_stop: Whether this process may stop alone.

    Yields:
        A request's place among the accepted, and its result, vLLM's ``RequestOutput``.
    """
    unfinished = engine.engine_core.engine_core.scheduler.requests
    watch = RequestWatch(unfinished, bar) if bar else None
    places: dict[str, int] = {}
    while True:
        while len(unfinished) < 2 * max_num_seqs and next(more, False):
            pass
        for key in accepted[len(places) :]:
            # vLLM adds a suffix of its own to the number that a result has.
            places[key.partition("-")[0]] = len(places)
        if not engine.has_unfinished_requests():
            return
        if watch is not None:
            watch.expect()
        if may_stop:
            stop_if_asked()
        for output in engine.step():
            if output.finished:
                yield places[output.request_id], output
        if watch is not None:
            watch.look()
