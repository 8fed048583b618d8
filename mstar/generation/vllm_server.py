"""One ``vllm serve`` by its address: what is asked of it over HTTP, and what its answers mean."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx2

from mstar.endpoint.access import find_key
from mstar.generation.vllm_prompts import MOST_IMAGES

_EXTENSION: Final = "mstar.generation.vllm_server_worker.WeightExtension"
_GENERATE: Final = "/inference/v1/generate"
_TRIES: Final = 10
HALF_WAY: Final = "half-way"
_KEY: Final = "VLLM_API_KEY"


class ServerLostError(Exception):
    """A server does not answer, or not as it should; what it was asked for is asked of others."""


class WronglyStartedError(ServerLostError):
    """A server was started in a way that does not serve."""


class FaultError(ServerLostError):
    """A server answers with HTTP 500."""


class RefusedError(Exception):
    """A server does not take a prompt."""


@dataclass(frozen=True)
class ServerFacts:
    """How a server was started.

    Attributes:
        model: The model's family and sizes (``model_sizes``).
        longest: Most tokens of prompt and response.
        pictures: How that prepares pictures (``picture_settings``).
        logprobs: Which log-probabilities it returns; ``raw_logprobs`` are those of the policy at temperature 1.
        normalizes: Whether it normalises pixels on the GPU, apart from the processor.
        transfer: By what it takes weights that are sent to it, e.g. ``nccl``; None if it takes none.
        engines: Engines with weights of their own behind the one address (``--data-parallel-size``).
    """

    model: Mapping[str, Any]
    dtype: str
    longest: int
    images: int
    processor: Mapping[str, Any]
    pictures: Mapping[str, Any]
    logprobs: str
    normalizes: bool
    transfer: str | None
    engines: int


class VllmServer:
    """A server, and what is known of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.version: str | None = None
        self.load = 0
        # As long as its pool runs something.
        self.client: httpx2.AsyncClient
        self.headers = {"content-type": "application/json"}
        # The servers' ``--api-key``, from where vLLM has it too.
        if os.environ.get(_KEY):
            self.headers["authorization"] = f"Bearer {find_key(_KEY)}"

    async def read_facts(self) -> ServerFacts:
        """Asks how it was started.

        Raises:
            ServerLostError: it does not answer.
            WronglyStartedError: it lacks a route.
        """
        info = await self._ask("GET", "/server_info?config_format=json")
        if not isinstance(info, dict) or "vllm_config" not in info:
            raise WronglyStartedError("it is no vLLM 0.32")
        info = info["vllm_config"]
        extension = str(info["parallel_config"].get("worker_extension_cls"))
        if not extension.endswith("WeightExtension"):
            raise WronglyStartedError(f"it was started without --worker-extension-cls {_EXTENSION}")
        # Without a prompt it is refused, but by whom tells whether it could have been drawn.
        with suppress(RefusedError):
            await self._ask("POST", _GENERATE, {})
        described = dict((await self._call("mstar_describe"))[0])
        for kind, options in (("kv", "--kv-transfer-config and --kv-offloading-size"), ("ec", "--ec-transfer-config")):
            store = (info.get(f"{kind}_transfer_config") or {}).get(f"{kind}_connector")
            if store is not None:
                # Not every store can be emptied (LMCache), and vLLM takes that for success.
                raise WronglyStartedError(f"it keeps what earlier weights made in {store}: start it without {options}")
        config = info["model_config"]
        pictures = config.get("multimodal_config") or {}
        return ServerFacts(
            pictures=described.pop("pictures", {}),
            model=described,
            dtype=str(config["dtype"]).removeprefix("torch."),
            longest=int(config["max_model_len"]),
            images=int((pictures.get("limit_per_prompt") or {}).get("image", {}).get("count", MOST_IMAGES)),
            processor=pictures.get("mm_processor_kwargs") or {},
            logprobs=str(config["logprobs_mode"]),
            normalizes=pictures.get("mm_device_do_normalize") is not False,
            transfer=(info.get("weight_transfer_config") or {}).get("backend"),
            engines=int(info["parallel_config"].get("data_parallel_size") or 1),
        )

    async def read_version(self) -> str:
        """The version of the weights that it says it has."""
        return str((await self._ask("GET", "/weight_info"))["weight_version"])

    async def load_weights(self, give: Callable[[], Awaitable[None]], version: str) -> None:
        """Has it take other weights, and empty every cache of what the earlier ones made.

        Args:
            version: Their fingerprint: what they are called from now on, in each of its answers too.

        Raises:
            ServerLostError: it does not answer, or could not do it.
        """
        self.version = None
        # If this ends half-way, the earlier version's name must not stand for what there is then.
        await self._rename(HALF_WAY)
        await give()
        for _ in range(_TRIES):
            # Requests that were given up a moment ago end with the next step.
            if (await self._ask("POST", "/reset_prefix_cache"))["success"]:
                break
            await asyncio.sleep(1)
        else:
            raise ServerLostError("it did not empty its prefix cache, because some request is still being written")
        await self._ask("POST", "/reset_encoder_cache")
        await self._rename(version)
        self.version = version

    async def read_weights(self, folder: str, version: str) -> None:
        """Has it read weights from a folder, as it sees that.

        Raises:
            ServerLostError: it does not answer, or read something else.
            WronglyStartedError: it does not see the folder.
        """
        for found in await self._call("mstar_load_weights", folder=folder):
            if found["fingerprint"] is None:
                raise WronglyStartedError(
                    f"it sees no weights in '{folder}': set shared_folder to a folder that it shares, and "
                    "shared_folder_on_servers if that has another path there"
                )
            if found["fingerprint"] != version:
                raise ServerLostError(f"what it read in '{folder}' is not what was written there")

    async def compare_weights(self, folder: str) -> list[dict[str, Any]]:
        """Has each of its workers compare what it holds with a folder, exactly; returns as ``WeightExtension`` does."""
        return list(await self._call("mstar_compare_weights", folder=folder))

    async def require_equal_engines(self) -> None:
        """Makes sure that all of its engines hold what the first does, whose answers alone come back.

        Raises:
            ServerLostError: it does not answer.
            WronglyStartedError: one holds something else.
        """
        sums = (await self._ask("POST", "/weight_checker", {"action": "checksum"}))["checksums"]
        first: dict[str, str] = {}
        for key, value in sums.items():  # a key is "dp0:pp0:pcp0:tp0:" and a weight's name
            if first.setdefault(key.partition(":")[2], value) != value:
                raise WronglyStartedError(
                    f"its engines hold different weights ('{key}'): have the machines of all of them see the shared "
                    "folder at the same path, or start a server for each engine, without --data-parallel-size"
                )

    async def generate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Draws one response, or reads one.

        Raises:
            ServerLostError: it does not answer, gave it up, or drew with other weights than it was given.
            RefusedError: the prompt is none for it.
        """
        try:
            answer = await self._ask("POST", _GENERATE, body)
        except FaultError:
            # It has counted a picture as read though it refused the prompt; then it misses it once, and takes it anew.
            answer = await self._ask("POST", _GENERATE, body)
        try:
            choice = answer["choices"][0]
            versions = {span["version"] for span in choice["weight_versions"] or ()}
        except (KeyError, IndexError, TypeError) as error:
            raise ServerLostError("its answer is not one of vLLM 0.32") from error
        if choice["finish_reason"] not in ("stop", "length"):
            raise ServerLostError(f"it ended a response by '{choice['finish_reason']}'")
        if versions != {self.version}:
            raise ServerLostError("it has other weights than it was given: it was started anew, or another run uses it")
        return dict(answer)

    async def _rename(self, version: str) -> None:
        await self._ask("POST", "/update_weight_version", {"new_version": version})

    async def _call(self, method: str, **arguments: str) -> Any:
        """Calls a method of each of vLLM's workers."""
        body = {"method": method, "kwargs": arguments}
        return (await self._ask("POST", "/collective_rpc", body))["results"]

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        content = None if body is None else json.dumps(body)
        try:
            response = await self.client.request(method, self.address + path, content=content, headers=self.headers)
        except httpx2.TransportError as error:
            raise ServerLostError(str(error) or type(error).__name__) from error
        return read_answer(response, path)


def read_answer(response: httpx2.Response, path: str) -> Any:
    """What a server answers, as JSON.

    Raises:
        ServerLostError: it is no answer.
        WronglyStartedError: it wants a key, or lacks the route.
        RefusedError: it does not take what it was given.
    """
    status = response.status_code
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and "scale-out" not in response.text:
        raise WronglyStartedError("it wants a key: set VLLM_API_KEY to what it was started with as --api-key")
    if status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        route = path.partition("?")[0]
        raise WronglyStartedError(f"it has no {route}: start it with VLLM_SERVER_DEV_MODE=1 and --enable-scale-out")
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        raise RefusedError(_message(response))
    if not response.is_success:
        kind = FaultError if status == HTTPStatus.INTERNAL_SERVER_ERROR else ServerLostError
        raise kind(f"HTTP {status}: {_message(response)}")
    try:
        return response.json() if response.content else None
    except ValueError as error:
        raise ServerLostError("its answer is no JSON") from error


def _message(response: httpx2.Response) -> str:
    """What a server says is wrong, in one line."""
    try:
        said = response.json()
        said = said.get("error", said.get("detail", said)) if isinstance(said, dict) else said
        text = str(said.get("message", said) if isinstance(said, dict) else said)
    except ValueError:
        text = response.text
    return (text.strip().splitlines() or ["no reason given"])[0].rstrip(".")[:200]
