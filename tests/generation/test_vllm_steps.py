"""How vLLM is kept at work, by an engine that only pretends to be vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from mstar.generation.progress import ResponseBar
from mstar.generation.vllm_process import work_off


class Engine:
    """Ends one request with each step: the second first, then the oldest."""

    def __init__(self) -> None:
        self.requests: dict[str, Any] = {}
        scheduler = SimpleNamespace(requests=self.requests)
        self.engine_core = SimpleNamespace(engine_core=SimpleNamespace(scheduler=scheduler))
        self.running: list[int] = []

    def add(self, number: int, accepted: list[str]) -> None:
        accepted.append(f"{number}-ab")
        self.requests[accepted[-1]] = SimpleNamespace(num_output_tokens=1)

    def has_unfinished_requests(self) -> bool:
        return bool(self.requests)

    def step(self) -> list[Any]:
        self.running.append(len(self.requests))
        key = list(self.requests)[1 if len(self.running) == 1 else 0]
        del self.requests[key]
        return [SimpleNamespace(request_id=key.partition("-")[0], finished=True)]


def test_results_are_handed_on_at_once_and_prompts_are_prepared_meanwhile() -> None:
    """What vLLM says of a whole shard is gigabytes, and to prepare all of its pictures takes minutes."""
    engine, accepted, prepared = Engine(), list[str](), list[int]()

    def more() -> Iterator[bool]:
        for number in range(7, 14):
            prepared.append(number)
            engine.add(number, accepted)
            yield True

    bar = ResponseBar(7, 4, show=True)
    results = work_off(engine, accepted, more(), bar, max_num_seqs=2, may_stop=True)
    seen = [(place, output.request_id, len(prepared)) for place, output in results]
    # Never fewer than run together, with as many waiting, as long as there are any.
    assert engine.running == [4, 4, 4, 4, 3, 2, 1]
    assert seen == [(1, "8", 4), (0, "7", 5), (2, "9", 6), (3, "10", 7), (4, "11", 7), (5, "12", 7), (6, "13", 7)]
    assert bar.done == 7
    bar.close()
