"""Several servers: which of them can be used, what is asked of each, and how one that was lost comes back."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx2

from mstar.errors import ConfigError, ServersLostError
from mstar.generation.vllm_server import RefusedError, ServerLostError, VllmServer, WronglyStartedError
from mstar.interruption import stop_if_asked
from mstar.process_start import allow_files

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds: between two looks at what else there is to do, and between two tries to get a server back.
TICK: Final = 0.5
RETRY: Final = 5.0
# A machine that is there takes a connection sooner.
_CONNECT: Final = 10.0
# Files that a process has open beside its connections, generously.
_OTHER_FILES: Final = 512


@dataclass(eq=False)
class Job:
    """The requests for one prompt, which go to a server together, since it then reads the prompt once for them.

    Attributes:
        bodies: Makes the requests' bodies; called when there is room for them.
        refused: Why vLLM does not take the prompt; None if it does.
    """

    name: str
    bodies: Callable[[], Sequence[dict[str, Any]]]
    size: int
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    refused: str | None = None
    losses: int = 0


class ServerPool:
    """Keeps account of which servers can be used.

    Args:
        servers: All servers. None of them is used before ``prepare`` has returned for it.
        prepare: Gives a server the present weights and proves that it has them.
        concurrency: Responses that a server is given to write at the same time.
        timeout: Seconds that an answer may take.
        patience: Seconds to wait for a server while there is none.
    """

    def __init__(
        self,
        servers: Sequence[VllmServer],
        prepare: Callable[[VllmServer], Awaitable[None]],
        concurrency: int,
        timeout: float,
        patience: float,
    ) -> None:
        self.servers = list(servers)
        self.usable: list[VllmServer] = []
        self._prepare = prepare
        self.concurrency, self._timeout, self._patience = concurrency, timeout, patience
        self._reasons: dict[str, str] = {}
        self._begun = False
        # Each response that is waited for is a connection: the usual limit, 1,024, is too few for four servers.
        allow_files(_OTHER_FILES + 2 * concurrency * len(self.servers))
        self._certificates = ssl.create_default_context()

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Runs some work to its end, with connections of its own."""

        async def connected() -> T:
            # A connection that a server has closed meanwhile would look like a server that is gone.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
            timeout = httpx2.Timeout(self._timeout, connect=_CONNECT)
            async with httpx2.AsyncClient(
                timeout=timeout,
                limits=limits,
                verify=self._certificates,
                trust_env=False,  # no proxy reaches into the servers' closed network
            ) as client:
                for server in self.servers:
                    server.client = client
                return await work()

        return asyncio.run(connected())

    async def prepare_all(self) -> None:
        """Prepares every server, and goes on with those that answer.

        Raises:
            ConfigError: it is the first time, and a server was not started as it must be.
            ServersLostError: no server answers.
        """
        self.usable = []
        await asyncio.gather(*(self.restore(server, first=not self._begun) for server in self.servers))
        await self.regain()
        self._begun = True

    async def regain(self) -> None:
        """Returns when some server can be used.

        Raises:
            ServersLostError: that took longer than ``patience``.
        """
        began = tried = time.monotonic()
        while not self.usable:
            stop_if_asked()
            now = time.monotonic()
            if now - began >= self._patience:
                raise ServersLostError(
                    f"no server has answered for {self._patience:g} seconds "
                    f"({'; '.join(f'{address}: {reason}' for address, reason in self._reasons.items())}): start one of "
                    "them again and run the same command again, which goes on from what is written."
                )
            if now - tried >= min(RETRY, self._patience):
                tried = now
                await asyncio.gather(*(self.restore(server) for server in self.servers))
            else:
                await asyncio.sleep(min(TICK, self._patience))

    async def ask_each(self, jobs: Sequence[Job]) -> dict[str, list[dict[str, Any] | None]]:
        """Has every usable server answer every job, each of one request.

        Returns:
            The answers by the server's address; None for a prompt that it refuses.
        """
        found: dict[str, list[dict[str, Any] | None]] = {}

        async def ask(server: VllmServer) -> None:
            own = [Job(job.name, job.bodies, job.size) for job in jobs]
            try:
                for job in own:
                    await self.attempt(server, job)
            except ServerLostError as error:
                self.lose(server, error)
                return
            found[server.address] = [job.answers.get(0) for job in own]

        while not found:
            await self.regain()
            await asyncio.gather(*(ask(server) for server in list(self.usable)))
        return {server.address: found[server.address] for server in self.servers if server.address in found}

    async def attempt(self, server: VllmServer, job: Job) -> None:
        """Has a server do what of a job is not done.

        Raises:
            ServerLostError: the server does not answer.
        """
        bodies = await asyncio.to_thread(job.bodies)

        async def ask(place: int) -> None:
            answer = await server.generate(bodies[place])
            job.answers[place] = answer

        try:
            async with asyncio.TaskGroup() as group:
                for place in range(job.size):
                    if place not in job.answers:
                        group.create_task(ask(place))
        except ExceptionGroup as errors:
            for kind in (ServerLostError, RefusedError):
                first = next((error for error in errors.exceptions if isinstance(error, kind)), None)
                if isinstance(first, ServerLostError):
                    raise first from None
                if isinstance(first, RefusedError):
                    job.refused = str(first)
                    return
            raise

    async def restore(self, server: VllmServer, *, first: bool = False) -> None:
        """Makes a server usable, if it answers.

        Raises:
            ConfigError: it is the first time, and the server was not started as it must be.
        """
        try:
            await self._prepare(server)
        except WronglyStartedError as error:
            if first:
                raise ConfigError(f"the server {server.address} cannot be used: {error}.") from error
            self.lose(server, error)
        except (ServerLostError, RefusedError) as error:
            self.lose(server, error)
        else:
            if self._reasons.pop(server.address, None) is not None:
                _log.warning("the server %s has the present weights and is used again.", server.address)
            self.usable.append(server)

    def lose(self, server: VllmServer, error: ServerLostError | RefusedError) -> None:
        """Takes a server out of use, and says so."""
        if server in self.usable:
            self.usable.remove(server)
        if server.address not in self._reasons:
            _log.warning(
                "the server %s cannot be used (%s): what it was to do goes to %s.",
                *(server.address, error),
                "the others" if self.usable else "whichever comes back first",
            )
        self._reasons[server.address] = str(error)
