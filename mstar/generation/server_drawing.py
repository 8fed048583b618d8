"""Drawing by several servers: each prompt goes where there is room, and elsewhere when its server is lost.

Nothing that is drawn depends on where and when: a request has a seed of its own, and all servers have the same weights.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from mstar.errors import ServersLostError
from mstar.generation.server_pool import RETRY, TICK, Job, ServerPool
from mstar.generation.vllm_server import ServerLostError, VllmServer
from mstar.interruption import stop_if_asked

# Servers that one prompt may lose: it may be what ends them.
_MOST_LOSSES: Final = 5


async def draw(pool: ServerPool, jobs: Iterable[Job], done: Callable[[Job], None]) -> None:
    """Has all jobs done.

    Args:
        done: Is given each of them with its answers, which are let go then.

    Raises:
        ServersLostError: no server is left, or one job was with too many that were lost.
        Interrupted: the process was asked to stop.
    """
    drawing = _Drawing(pool, jobs, done)
    try:
        while drawing.unfinished:
            stop_if_asked()
            await drawing.step()
    finally:
        await drawing.end()


class _Drawing:
    def __init__(self, pool: ServerPool, jobs: Iterable[Job], done: Callable[[Job], None]) -> None:
        self._pool, self._done = pool, done
        self._queue = deque(jobs)
        self.unfinished = set(self._queue)
        self._running: dict[asyncio.Task[None], tuple[VllmServer, Job]] = {}
        self._restoring: dict[asyncio.Task[None], VllmServer] = {}
        self._tried = time.monotonic()
        for server in pool.servers:
            server.load = 0

    async def step(self) -> None:
        """Gives out what there is room for, and waits for something to happen."""
        pool = self._pool
        if not pool.usable and not self._restoring:
            await pool.regain()
        self._give_out()
        if time.monotonic() - self._tried >= RETRY:
            self._tried = time.monotonic()
            for server in pool.servers:
                if server not in pool.usable and server not in self._restoring.values():
                    self._restoring[asyncio.create_task(pool.restore(server))] = server
        tasks = [*self._running, *self._restoring]
        if tasks:
            await asyncio.wait(tasks, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in self._restoring if task.done()]:
            del self._restoring[task]
            task.result()
        for task in tasks:
            # It may be there no more: its server was lost a moment ago.
            if task in self._running and task.done():
                self._take_in(task)

    async def end(self) -> None:
        """Gives up what is still being written."""
        tasks = [*self._running, *self._restoring]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _give_out(self) -> None:
        """Gives each prompt to the server with the fewest responses to write, until none may have more."""
        pool = self._pool
        while self._queue and pool.usable:
            server = min(pool.usable, key=lambda server: server.load)
            if server.load >= pool.concurrency:
                return
            job = self._queue.popleft()
            server.load += job.size
            task = asyncio.create_task(pool.attempt(server, job))
            task.add_done_callback(_note_error)
            self._running[task] = (server, job)

    def _forget(self, task: asyncio.Task[None]) -> tuple[VllmServer, Job]:
        server, job = self._running.pop(task)
        server.load -= job.size
        task.cancel()
        return server, job

    def _take_in(self, task: asyncio.Task[None]) -> None:
        error = task.exception()
        server, job = self._forget(task)
        if error is None:
            self.unfinished.remove(job)
            self._done(job)
            # An answer takes hundreds of times the memory of the response in it.
            job.answers.clear()
        elif isinstance(error, ServerLostError):
            self._pool.lose(server, error)
            # Whatever else it had, it will not answer that either, or not for a long time.
            others = [other for other, (same, _) in self._running.items() if same is server]
            for lost in [job, *(self._forget(other)[1] for other in others)]:
                _count_loss(lost, server, error)
                self._queue.appendleft(lost)
        else:
            raise error


def _note_error(task: asyncio.Task[None]) -> None:
    # What has been given up may fail all the same, and asyncio complains of an error that nobody has asked for.
    if not task.cancelled():
        task.exception()


def _count_loss(job: Job, server: VllmServer, error: ServerLostError) -> None:
    job.losses += 1
    if job.losses >= _MOST_LOSSES:
        raise ServersLostError(
            f"the prompt '{job.name}' was with {job.losses} servers when they were lost, the last of them "
            f"{server.address} ({error}): leave it out if it is what ends them, or raise answer_timeout if they are "
            "slow; the same command goes on from what is written."
        )
