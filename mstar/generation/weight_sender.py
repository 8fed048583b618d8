"""Weights on their way to ``vllm serve`` by NCCL: through vLLM's own routes, and by vLLM's own code on this side.

This process and the workers of one server are a group. It sends what is in the folder of the present weights, so that a
server that comes back gets these at any time, while the policy trains on.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import torch
from torch import Tensor

from mstar.errors import ConfigError, MissingExtraError
from mstar.generation.vllm_server import ServerLostError, VllmServer, read_answer
from mstar.generation.weight_files import read_weights

_CONNECT: Final = 10.0


class WeightSender:
    """Sends weights to one server."""

    def __init__(self, server: VllmServer, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        # Each thread has a present GPU of its own, at first the machine's first one.
        self._device = find_gpu()
        self._engine: Any = None

    async def send(self, folder: Path) -> None:
        """Has every worker of the server take the weights in a folder of this machine.

        Raises:
            ServerLostError: the server does not answer, or the transfer failed.
        """
        await self._in_thread(folder, "load")

    async def compare(self, folder: Path) -> list[dict[str, Any]]:
        """Sends them again, for each worker to compare what it holds with them, exactly; raises as ``send``.

        Returns:
            What ``WeightExtension.mstar_compare_sent`` does, of each worker.
        """
        return await self._in_thread(folder, "compare")

    def close(self) -> None:
        """Leaves the group; a transfer that hangs ends with that."""
        engine, self._engine = self._engine, None
        if engine is not None and engine.model_update_group is not None:
            engine.model_update_group.destroy()

    def _transfer(self, folder: Path, aim: str) -> list[dict[str, Any]]:
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        source = _Source(folder, self._device)
        timeout, certificates = httpx2.Timeout(self._timeout, connect=_CONNECT), ssl.create_default_context()
        # No proxy reaches into the servers' closed network.
        with httpx2.Client(timeout=timeout, verify=certificates, trust_env=False) as http:
            routes = _Routes(http, self._server, aim)
            try:
                if self._engine is None:
                    self._engine = self._join(routes, source)
                self._engine.client, self._engine.source = routes, source
                self._engine.send_weights()
            # NCCL and the meeting of the group raise RuntimeError; vLLM's code ValueError.
            except (RuntimeError, ValueError, OSError) as error:
                raise ServerLostError(f"the weights could not be sent: {error}") from error
        return routes.found

    def _join(self, routes: _Routes, source: _Source) -> Any:
        from vllm.distributed.weight_transfer import nccl_engine as vllms

        # Whatever group an earlier run has left there.
        routes.ask("/shutdown_weight_transfer_engine")
        workers = routes.ask("/get_world_size", method="GET")["world_size"]
        host, port = _own_place(self._server.address)
        info = vllms.NCCLTrainerInitInfo(master_address=host, master_port=port, world_size=workers + 1, rank=0)
        return vllms.NCCLTrainerWeightTransferEngine.trainer_init(info, client=routes, source=source)

    async def _in_thread(self, folder: Path, aim: str) -> list[dict[str, Any]]:
        """Runs a transfer, which may hang, as NCCL does if the other side ends; asyncio would wait for its threads."""
        done: Future[list[dict[str, Any]]] = Future()
        done.set_running_or_notify_cancel()

        def run() -> None:
            try:
                done.set_result(self._transfer(folder, aim))
            except BaseException as error:  # handed on to whoever waits
                done.set_exception(error)

        threading.Thread(target=run, name="sends weights", daemon=True).start()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(done), self._timeout)
        except TimeoutError as error:
            self.close()
            raise ServerLostError(f"it did not take the weights in {self._timeout:g} seconds") from error
        except ServerLostError:
            self.close()
            raise


@dataclass
class _Routes:
    """What vLLM's code asks of a server (its ``VLLMWeightSyncClient``), with the key that the server wants.

    Attributes:
        aim: ``load``, or ``compare``: the same transfer, of which the workers take nothing.
        found: What the workers found when they compared.
    """

    http: httpx2.Client
    server: VllmServer
    aim: str
    found: list[dict[str, Any]] = field(default_factory=list)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.ask("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        if self.aim == "load":
            self.ask("/start_weight_update")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        if self.aim == "load":
            self.ask("/update_weights", {"update_info": update_info})
        else:
            body = {"method": "mstar_compare_sent", "kwargs": {"update_info": update_info}}
            self.found = list(self.ask("/collective_rpc", body)["results"])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        # What they are called is said once the caches of the earlier ones are empty.
        if self.aim == "load":
            self.ask("/finish_weight_update")

    def ask(self, path: str, body: Mapping[str, Any] | None = None, method: str = "POST") -> Any:
        content = None if body is None else json.dumps(body)
        try:
            response = self.http.request(
                method, self.server.address + path, content=content, headers=self.server.headers
            )
        except httpx2.TransportError as error:
            raise ServerLostError(str(error) or type(error).__name__) from error
        return read_answer(response, path)


class _Source:
    """The weights in a folder, as vLLM's code asks for them (its ``WeightSource``)."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder, self._device = folder, device

    def metadata(self) -> list[Any]:
        from vllm.distributed.weight_transfer.base import ParamMeta

        return [ParamMeta(name, value.dtype, tuple(value.shape)) for name, value in read_weights(self._folder)]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in read_weights(self._folder):
            yield name, value.to(self._device)


def find_gpu() -> torch.device:
    """The GPU that weights are sent from.

    Raises:
        ConfigError: there is none.
        MissingExtraError: vLLM's code, which sends them, is not here.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtraError("vllm", "vllm", "VllmServerEngine with transfer: nccl")
    if not torch.cuda.is_available():
        raise ConfigError(
            "VllmServerEngine: transfer is 'nccl', which sends weights from GPU to GPU, and this machine has none: set "
            "it to folder."
        )
    return torch.device("cuda", torch.cuda.current_device())


def _own_place(address: str) -> tuple[str, int]:
    """This machine's address as a server sees it, and a port that is free."""
    url = httpx2.URL(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        # Nothing is sent: the system chooses the interface.
        way.connect((url.host, url.port or (443 if url.scheme == "https" else 80)))
        host = str(way.getsockname()[0])
    with socket.socket() as free:
        free.bind((host, 0))
        return host, int(free.getsockname()[1])
