"""Continuing step prefixes until their labels are known: how many continuations reach the gold answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mstar.annotation.settings import AnnotationSettings
from mstar.distributed import by_leader
from mstar.generation import Engine, Request, draw_responses, plan_samples
from mstar.grading import Grader
from mstar.interruption import stop_if_asked
from mstar.types import Prompt, Response

Key = tuple[str, str]  # prompt id, step prefix


@dataclass(slots=True)
class Count:
    """How many continuations of one prefix there are, and how many of them reached the gold answer."""

    num_correct: int = 0
    num_total: int = 0

    def is_settled(self, lead: int) -> bool:
        """Whether one is right, which settles a hard label, and right or wrong ones are ahead by ``lead``."""
        return self.num_correct > 0 and abs(2 * self.num_correct - self.num_total) >= lead


@dataclass(slots=True)
class Drawn:
    """Responses or continuations that were generated, how many were cut off, and all tokens."""

    num_responses: int = 0
    num_cut_off: int = 0
    num_tokens: int = 0

    def __add__(self, other: Drawn) -> Drawn:
        return Drawn(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def add(self, responses: Sequence[Response]) -> None:
        """Counts some more."""
        for response in responses:
            self.num_responses += 1
            self.num_cut_off += not response.finished
            self.num_tokens += response.num_tokens


def is_right(prompt: Prompt, response: Response, grader: Grader) -> bool:
    """Whether a response ends in the right answer; one that was cut off does not."""
    stop_if_asked()
    return response.finished and grader.grade(prompt, response.text).correct


def prepare_whole(grader: Grader, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Response]]) -> None:
    """Tells the grader of the responses that ``is_right`` will be asked about."""
    pairs = zip(prompts, drawn, strict=True)
    grader.prepare([(prompt, r.text) for prompt, responses in pairs for r in responses if r.finished])


def count_continuations(
    prompts: Iterable[Prompt],
    chains: Sequence[tuple[str, Sequence[str]]],
    right: Sequence[bool],
    engine: Engine,
    grader: Grader,
    settings: AnnotationSettings,
    drawn: Drawn,
) -> dict[Key, Count]:
    """Continues the prefixes of some responses.

    Args:
        chains: For every response, its prompt's id and its prefixes, the shortest first.
        right: For every response, whether its own answer is right.
        drawn: Where what is generated is counted.

    Returns:
        For every distinct (prompt id, prefix) its count.
    """
    draws = _Draws({prompt.id: prompt for prompt in prompts}, engine, grader, settings, drawn)
    keys = dict.fromkeys((prompt_id, prefix) for prompt_id, prefixes in chains for prefix in prefixes)
    if settings.continuing == "search":
        return _search(chains, right, draws, settings.num_continuations)
    if settings.continuing == "ahead":
        target = min(settings.lead, settings.num_continuations)
        while target < settings.num_continuations:
            draws.up_to(target, [key for key in keys if not draws.count(key).is_settled(settings.lead)])
            target += max(1, target // 4)
        draws.up_to(settings.num_continuations, [key for key in keys if not draws.count(key).is_settled(settings.lead)])
    else:
        draws.up_to(settings.num_continuations, list(keys))
    return draws.counts


class _Draws:
    """Continuations drawn so far."""

    def __init__(
        self,
        prompts: Mapping[str, Prompt],
        engine: Engine,
        grader: Grader,
        settings: AnnotationSettings,
        drawn: Drawn,
    ) -> None:
        self.prompts = prompts
        self.engine = engine
        self.grader = grader
        self.settings = settings
        self.counts: dict[Key, Count] = {}
        self.drawn = drawn

    def count(self, key: Key) -> Count:
        """What is known of a prefix."""
        return self.counts.setdefault(key, Count())

    def up_to(self, target: int, keys: Collection[Key]) -> None:
        """Draws until each of these prefixes has so many; the first ones are those of every larger target."""
        requests = []
        for prompt_id, prefix in keys:
            start = self.count((prompt_id, prefix)).num_total
            if start < target:
                samples = plan_samples(
                    self.settings.seed, f"annotation/continue/{prefix}", prompt_id, target - start,
                    self.settings.temperature, first_index=start,
                )  # fmt: skip
                requests.append(Request(self.prompts[prompt_id], samples, prefix=prefix))
        if not requests:
            return
        drawn = draw_responses(self.engine, requests)
        right = by_leader(lambda: self._count_right(requests, drawn), self.engine.group_size)
        for request, responses, num_correct in zip(requests, drawn, right, strict=True):
            count = self.count((request.prompt.id, request.prefix))
            count.num_total += len(responses)
            count.num_correct += num_correct
            self.drawn.add(responses)

    def _count_right(self, requests: Sequence[Request], drawn: Sequence[Sequence[Response]]) -> list[int]:
        prepare_whole(self.grader, [request.prompt for request in requests], drawn)
        pairs = zip(requests, drawn, strict=True)
        return [sum(is_right(request.prompt, r, self.grader) for r in responses) for request, responses in pairs]


def _search(
    chains: Sequence[tuple[str, Sequence[str]]], right: Sequence[bool], draws: _Draws, num_continuations: int
) -> dict[Key, Count]:
    """Finds the first prefix of every wrong response that no continuation leads from to the answer, by halving.

    A right response is itself a right continuation of each of its prefixes, which are right without a search.
    The prefixes before it are right and those after it wrong, seen or not: that is all that is known of them.
    """
    # The first wrong one is in [low, high].
    bounds = [[len(prefixes) * good, len(prefixes)] for (_, prefixes), good in zip(chains, right, strict=True)]
    while open_ := [number for number, (low, high) in enumerate(bounds) if low < high]:
        middle = {number: sum(bounds[number]) // 2 for number in open_}
        keys = {number: (chains[number][0], chains[number][1][middle[number]]) for number in open_}
        target = 1
        while True:
            draws.up_to(target, [key for key in dict.fromkeys(keys.values()) if draws.count(key).num_correct == 0])
            if target == num_continuations:
                break
            target = min(2 * target, num_continuations)
        for number in open_:
            alive = draws.count(keys[number]).num_correct > 0
            bounds[number][0 if alive else 1] = middle[number] + 1 if alive else middle[number]
    found: dict[Key, Count] = {}
    for (prompt_id, prefixes), (low, _) in zip(chains, bounds, strict=True):
        for place, prefix in enumerate(prefixes):
            # Of the responses that begin with it, one may have shown that it can be saved.
            count = found.setdefault((prompt_id, prefix), Count(0, 1))
            count.num_correct = max(count.num_correct, int(place < low))
    return found
