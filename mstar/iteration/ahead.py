"""Shards that are drawn ahead: the first ones of an iteration, while the one before it trains.

Servers draw them with the weights that the iteration before drew with, so they are stale by one iteration, and no more.
Which they are is fixed beforehand, and all of them are waited for: what a run draws does not depend on how fast it is.
They lie in a folder of their own, neither graded nor scored, until the iteration that they are for takes them in.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from mstar.generation import Engine, draw_responses
from mstar.interruption import GivenUpError, stop_if_asked, stopping_when
from mstar.iteration.plan import IterationPrompts
from mstar.iteration.shards import Earlier, move_aside, read_shard, sift_shard
from mstar.prompts.prompt_check import PromptCheck
from mstar.storage import (
    PromptResponses,
    RunDirectory,
    read_json,
    read_or_put_aside,
    write_json,
    write_responses,
)
from mstar.types import Prompt, ScoredResponse, Verdict, VerdictStatus

# Graded by the iteration that takes them in: a grader may belong to one thread.
_UNGRADED: Final = Verdict(correct=False, predicted=None, status=VerdictStatus.NO_ANSWER)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What of an iteration is drawn while the one before it trains.

    Attributes:
        policy: The fingerprint of the weights that draw them.
        weights: Where these weights are kept for whoever goes on after the end of the process.
    """

    iteration: int
    shards: tuple[int, ...]
    policy: str
    temperature: float
    weights: str

    def facts(self) -> dict[str, Any]:
        """What the iteration's responses depend on through it."""
        return {
            "shards": list(self.shards),
            "drawn_in_iteration": self.iteration - 1,
            "policy": self.policy,
            "temperature": self.temperature,
        }


def claim_ahead(run: RunDirectory, ahead: Ahead, facts: Mapping[str, Any]) -> None:
    """Makes sure that what is in the folder of an iteration's shards ahead belongs there; all else is moved aside."""
    folder = run.ahead(ahead.iteration)
    path = folder / run.plan(ahead.iteration).name
    if folder.exists() and not (path.exists() and read_json(path) == facts):
        move_aside(folder)
    if not path.exists():
        write_json(path, facts)


def find_ahead(run: RunDirectory, prompts: IterationPrompts, ahead: Ahead) -> dict[int, Earlier]:
    """Those of the shards ahead that are drawn, by their numbers; a damaged one is put aside."""
    found, folder = {}, run.ahead(ahead.iteration)
    for number in ahead.shards:
        path, shard = folder / run.responses(ahead.iteration, number).name, prompts.shard(number)[0]
        if read_or_put_aside(path, partial(read_shard, shard, prompts.plan.counts)) is not None:
            found[number] = Earlier(path, verdicts=False, scores=False, ahead=True)
    return found


class DrawingAhead:
    """Draws shards in a thread; the engine and the renderer of ``check`` are its own until ``finish`` has returned."""

    def __init__(
        self, prompts: IterationPrompts, numbers: Sequence[int], engine: Engine, check: PromptCheck, run: RunDirectory
    ) -> None:
        self._prompts, self._engine, self._run = prompts, engine, run
        # Of a fast tokenizer, two threads cannot have one, and training has the other.
        self._check = replace(check, reader=copy.deepcopy(check.reader))
        # The table that they come from is read here, not beside the training.
        self._shards = {number: prompts.shard(number) for number in numbers}
        self._given_up = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="draws ahead", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Returns when all are drawn.

        Raises:
            Exception: what went wrong in the thread.
            Interrupted: the process was asked to stop.
        """
        while self._thread.is_alive():
            stop_if_asked()
            self._thread.join(0.2)
        if self._error is not None:
            raise self._error

    def give_up(self) -> None:
        """Has the thread end soon; what it has written stays."""
        self._given_up.set()
        self._thread.join()

    def _work(self) -> None:
        plan = self._prompts.plan
        total = sum(len(shard) for shard, _ in self._shards.values()) * plan.num_samples
        try:
            with stopping_when(self._given_up), self._engine.counting(total, show=False):
                for number, (shard, hidden) in self._shards.items():
                    stop_if_asked()
                    self._draw(number, shard, hidden)
        except GivenUpError:
            pass
        except BaseException as error:
            self._error = error

    def _draw(self, number: int, shard: Sequence[Prompt], hidden: Mapping[str, Prompt]) -> None:
        plan, folder = self._prompts.plan, self._run.ahead(self._prompts.plan.iteration)
        put_aside = folder / self._run.quarantine(plan.iteration, number).name
        usable = sift_shard(shard, self._check, put_aside, len(self._prompts))
        requests = plan.requests(usable, [range(plan.num_samples)] * len(usable), hidden)
        written = draw_responses(self._engine, requests)
        groups = [
            PromptResponses(prompt, tuple(ScoredResponse(response, _UNGRADED) for response in responses))
            for prompt, responses in zip(usable, written, strict=True)
        ]
        write_responses(folder / self._run.responses(plan.iteration, number).name, groups)
