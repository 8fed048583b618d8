"""The steps of vLLM in this process: what it was handed is worked off, and it is handed more meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mstar.generation.progress import RequestWatch, ResponseBar
from mstar.interruption import stop_if_asked


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
