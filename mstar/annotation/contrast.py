"""Contrast labels: a right chain with one wrong value in it, which is wrong whatever the answer.

Monte-Carlo labels come from final answers, and a wrong reading of the picture that keeps the answer is right by them.
A contrast needs no teacher: if the whole chain is right, then the same chain with another value in it is wrong.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isnan
from typing import Literal

from mstar.annotation.values import find_values, other_value
from mstar.errors import require_least, require_share
from mstar.generation import derive_seed
from mstar.types import StepLabels

_Frame = tuple[str, str]


@dataclass(frozen=True)
class ContrastSettings:
    """How contrast labels are made.

    A chain is believed right if its answer is right and every labelled step has a right continuation; ``min_label`` and
    ``support`` ask for more, where answers are hit by luck. In one of its steps before the last, a value that stands
    there for the first time is changed. The steps before keep their labels; it and those after it are labelled
    wrong. A value that another believed chain of the prompt has in the same place is never put in. No contrasts are
    made of a chain with a line that is not labelled (public steps of several lines have such).

    Args:
        share: Share of the believed chains that contrasts are made of.
        each: Contrasts made of each of them, all different.
        change: What a value becomes. ``sibling``: what another response to the same prompt has in the same place, so
            that the wrong step is one that the policy writes; chains without such a sibling get no contrast. ``value``:
            another value near it. ``either``: a sibling's where there is one, else another value.
        follow: What becomes of the steps after it. ``left``: they stay. ``consistent``: where they repeat the old
            value, they get the new one; results are not worked out again.
        min_label: Least share of right continuations of every step of a believed chain.
        support: Other responses to the prompt that must have each of its steps before the last, word by word.

    Raises:
        ConfigError: a setting is out of its range.
    """

    share: float = 1.0
    each: int = 1
    change: Literal["sibling", "value", "either"] = "either"
    follow: Literal["left", "consistent"] = "consistent"
    min_label: float = 0.0
    support: int = 0

    def __post_init__(self) -> None:
        require_share("contrast.share", self.share, "(0, 1]")
        require_least("contrast.", each=self.each)
        require_share("contrast.min_label", self.min_label)
        require_least("contrast.", 0, support=self.support)


@dataclass(frozen=True, slots=True)
class _Place:
    """A value that may be changed: the number of its step, and what stands before and behind it there."""

    step: int
    before: str
    value: str
    after: str

    @property
    def frame(self) -> _Frame:
        """What is around it, by which it is found in other responses."""
        return self.before.strip(), self.after.strip()


def make_contrasts(labels: Iterable[StepLabels], settings: ContrastSettings, seed: int) -> Iterator[StepLabels]:
    """Contrasts of labelled responses, those of a prompt one after the other.

    Each follows from the seed and the responses to its prompt alone.
    """
    for _, group in groupby(labels, key=lambda label: label.prompt_id):
        yield from _contrast_prompt(list(group), settings, seed)


def _contrast_prompt(labels: Sequence[StepLabels], settings: ContrastSettings, seed: int) -> Iterator[StepLabels]:
    believed = [label for label in labels if _is_believed(label, labels, settings)]
    right, wrong = _by_frame(believed), _by_frame(label for label in labels if label not in believed)
    known = {label.response for label in labels}
    for label in believed:
        if not all(label.num_total):
            continue
        rng = random.Random(derive_seed(seed, f"contrast/{label.response}", label.prompt_id))
        if rng.random() >= settings.share:
            continue
        places = _first_values(label)
        for _ in range(settings.each):
            made = _change(label, places, right, wrong, settings, rng)
            if made is not None and made.response not in known:
                known.add(made.response)
                yield made


def _is_believed(label: StepLabels, labels: Sequence[StepLabels], settings: ContrastSettings) -> bool:
    shares = [share for share in label.soft_labels if not isnan(share)]
    if not (label.correct and all(shares) and min(shares, default=1.0) >= settings.min_label):
        return False
    others = [{step.strip() for step in other.steps} for other in labels if other is not label]
    steps = (step.strip() for step in label.steps[:-1])
    return settings.support == 0 or all(sum(s in other for other in others) >= settings.support for s in steps)


def _change(
    label: StepLabels,
    places: Sequence[_Place],
    right: Mapping[_Frame, set[str]],
    wrong: Mapping[_Frame, set[str]],
    settings: ContrastSettings,
    rng: random.Random,
) -> StepLabels | None:
    """One contrast of a response; None if none of its values can be changed."""
    avoid = {place: right[place.frame] for place in places}
    written = [(place, sorted(wrong.get(place.frame, set()) - avoid[place])) for place in places]
    siblings = [(place, values) for place, values in written if values]
    if settings.change != "value" and siblings:
        place, values = rng.choice(siblings)
        return _splice(label, place, rng.choice(values), settings)
    if settings.change != "sibling" and places:
        place = rng.choice(places)
        value = other_value(place.value, rng, avoid[place])
        return None if value is None else _splice(label, place, value, settings)
    return None


def _first_values(label: StepLabels) -> list[_Place]:
    """The values of a response that stand there for the first time, but for those of its last step."""
    first: dict[str, _Place] = {}
    for place in _values(label):
        first.setdefault(place.value, place)
    return list(first.values())


def _values(label: StepLabels) -> Iterator[_Place]:
    for number, step in enumerate(label.steps[:-1]):
        for match in find_values(step):
            yield _Place(number, step[: match.start()], match[0], step[match.end() :])


def _by_frame(labels: Iterable[StepLabels]) -> Mapping[_Frame, set[str]]:
    """The values of some responses by what stands around them in their steps."""
    found: dict[_Frame, set[str]] = defaultdict(set)
    for label in labels:
        for place in _values(label):
            found[place.frame].add(place.value)
    return found


def _splice(label: StepLabels, place: _Place, value: str, settings: ContrastSettings) -> StepLabels:
    later = label.steps[place.step + 1 :]
    if settings.follow == "consistent":
        later = tuple(_replace(step, place.value, value) for step in later)
    steps = (*label.steps[: place.step], f"{place.before}{value}{place.after}", *later)
    return StepLabels(
        prompt_id=label.prompt_id,
        response="".join(steps),
        steps=steps,
        num_correct=(*label.num_correct[: place.step], *(0 for _ in label.steps[place.step :])),
        num_total=(*label.num_total[: place.step], *(1 for _ in label.steps[place.step :])),
        correct=steps[-1] == label.steps[-1],
    )


def _replace(step: str, old: str, new: str) -> str:
    for match in reversed(find_values(step)):
        if match[0] == old:
            step = step[: match.start()] + new + step[match.end() :]
    return step
