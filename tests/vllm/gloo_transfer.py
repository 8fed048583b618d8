"""Gloo in NCCL's place, so that vLLM's routes for weights can be run on a CPU: the transport alone is another one.

What is replaced, on either side, is the group that vLLM makes, its packing into streams of a GPU, and torch's questions
for a GPU. The server loads this as its extension of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import torch
from torch.distributed import BroadcastOptions, ProcessGroupGloo, TCPStore

from mstar.generation.vllm_server_worker import WeightExtension

__all__ = ["GlooWeightExtension", "by_gloo"]

PATIENCE = timedelta(seconds=60)


class Group:
    """What of vLLM's ``PyNcclCommunicator`` the hand-over uses."""

    def __init__(self, host: str, port: int, rank: int, size: int) -> None:
        self.store = TCPStore(host, port, size, rank == 0, PATIENCE)
        self.group = ProcessGroupGloo(self.store, rank, size, PATIENCE)

    def broadcast(self, tensor: torch.Tensor, src: int) -> None:
        options = BroadcastOptions()
        options.rootRank = src
        self.group.broadcast([tensor], options).wait()

    def destroy(self) -> None:
        """Nothing: it ends with the process."""


def join_as_worker(info: Any, parallel: Any) -> Group:
    return Group(info.master_address, info.master_port, parallel.rank + info.rank_offset, info.world_size)


def join_as_trainer(info: Any) -> Group:
    return Group(info.master_address, info.master_port, 0, info.world_size)


def send_all(iterator: Iterator[Any], group: Group, src: int, post_iter_func: Callable[[Any], Any], **_: Any) -> None:
    for item in iterator:
        group.broadcast(post_iter_func(item).contiguous(), src)


def receive_all(
    iterator: Iterator[Any], group: Group, src: int, post_unpack_func: Callable[[Any], None], **_: Any
) -> None:
    for name, (shape, dtype) in iterator:
        tensor = torch.empty(shape, dtype=dtype)
        group.broadcast(tensor, src)
        post_unpack_func([(name, tensor)])


@contextmanager
def by_gloo() -> Iterator[None]:
    """Within it, this process sends and receives so."""
    vllms = "vllm.distributed.weight_transfer.nccl_engine"
    with (
        patch(f"{vllms}.worker_init_process_group", join_as_worker),
        patch(f"{vllms}.open_trainer_endpoint", join_as_trainer),
        patch(f"{vllms}.packed_nccl_broadcast_producer", send_all),
        patch(f"{vllms}.packed_nccl_broadcast_consumer", receive_all),
        patch("torch.accelerator.synchronize", lambda: None),
        patch("mstar.generation.weight_sender.find_gpu", lambda: torch.device("cpu")),
    ):
        yield


class GlooWeightExtension(WeightExtension):
    """What the server loads of this file; from then on it receives so."""


if torch.multiprocessing.parent_process() is not None:
    # Kept: what is entered is left again once nobody holds it.
    FOREVER = by_gloo()
    FOREVER.__enter__()
