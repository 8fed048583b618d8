"""The data of all stages of a run, written once: one data set and its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, get_args, get_origin

from mstar.errors import ConfigError
from mstar.prompts.base import PromptSource
from mstar.prompts.part import PromptPart
from mstar.provenance import arguments_of

PartName = Literal["warmup", "train", "validation", "test", "unlabelled", "annotation"]

# Parts that are those of training where they are not named.
_FROM_TRAIN: Final = ("warmup", "annotation")
# What the data of every stage takes: which part serves as which of its options.
STAGE_PARTS: Final[Mapping[str, Mapping[str, PartName]]] = {
    "evolve": {"train": "train", "validation": "validation", "test": "test", "unlabelled": "unlabelled"},
    "warmup": {"train": "warmup", "test": "test"},
    "mprm": {"prompts": "annotation"},
}
_OWN: Final = ("split", "size", "hide_answers")


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of a data set is; where several ways to choose are given, what all of them choose.

    Attributes:
        hide_answers: The data set's own ``hide_answers``, for unlabelled prompts.
        start: The number, from 0, of the first row. A range follows the order of the rows.
        stop: The number behind the last row; none is the end.
        share: From which to which share of the prompts, e.g. 0 and 0.9, by a place that follows from a prompt's id and
            ``seed`` alone, not from the order of the rows. Shares that do not overlap have no prompt in common.
        ids: A file with a prompt's id on each line.
        seed: Seed of the places that ``share`` cuts.
    """

    split: str | None = None
    size: int | None = None
    hide_answers: bool | None = None
    start: int = 0
    stop: int | None = None
    share: tuple[float, float] | None = None
    ids: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DataSources:
    """One data set and the parts of it that the stages take; most often a file of its own, for all of them.

    ``--data.sources configs/data/mathv360k.yaml`` (for ``annotate`` and ``prompts``: ``--sources``) names the file, and
    flags change what is in it: ``--data.sources.dataset.root``, ``--data.sources.train.size``. In a configuration, the
    file's path is relative to the configuration's folder. A part that is not there is not used.

    Attributes:
        dataset: The data set, by the class of its source; ``mstar.prompts.MixedPrompts`` mixes several by weight. What
            a part says of ``split``, ``size`` and ``hide_answers`` takes the place of what stands here.
        train: What ``fit`` trains on.
        warmup: The same for a warm-up, with ``data.stage: warmup``; none takes ``train``.
        annotation: What ``annotate`` labels, and an MPRM learns from; none takes ``train``.
        validation: Held-out prompts for the dynamics and the adaptive temperature.
        test: Held-out prompts for ``test`` and ``predict``.
        unlabelled: Prompts whose answers are hidden, for ``rollout.unlabelled``.
    """

    dataset: Callable[[], PromptSource]
    train: Part | None = None
    warmup: Part | None = None
    annotation: Part | None = None
    validation: Part | None = None
    test: Part | None = None
    unlabelled: Part | None = None

    def has(self, name: PartName) -> bool:
        """Whether there is such a part."""
        return getattr(self, name) is not None or (name in _FROM_TRAIN and self.train is not None)

    def open(self, name: PartName) -> PromptSource | None:
        """Opens a part of the data set; None if there is no such part.

        Raises:
            ConfigError: the data set does not have what the part says of it.
        """
        part: Part | None = getattr(self, name)
        if part is None and name in _FROM_TRAIN:
            part, name = self.train, "train"
        if part is None:
            return None
        own = {key: getattr(part, key) for key in _OWN if getattr(part, key) is not None}
        for key, value in own.items():
            self._check(name, key, value)
        source = partial(self.dataset, **own)()
        whole = part.start == 0 and part.stop is None and part.share is None and part.ids is None
        return source if whole else PromptPart(source, part.start, part.stop, part.share, part.ids, part.seed)

    def require(self, name: PartName, key: str) -> PromptSource:
        """Opens a part that a command cannot do without; ``key`` is the option that names the sources.

        Raises:
            ConfigError: there is no such part.
        """
        source = self.open(name)
        if source is None:
            raise ConfigError(f"{key} has no part '{name}': add '{name}:' to it, with a split or a share.")
        return source

    def _check(self, name: str, key: str, value: object) -> None:
        cls = _class_of(self.dataset)
        if cls is None:
            return
        known = arguments_of(cls, typed=True)
        if key not in known:
            raise ConfigError(f"sources.{name}.{key} is set, but {cls.__name__} has no '{key}'; leave it out.")
        hint = known[key].annotation
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ConfigError(f"sources.{name}.{key} is '{value}', but {cls.__name__} has {', '.join(get_args(hint))}.")


def unused_parts(stage: str, sources: Mapping[str, Any]) -> set[str]:
    """The parts in the settings of some sources that a stage does not take."""
    taken = STAGE_PARTS[stage].values()
    used = {"train" if name in _FROM_TRAIN and sources.get(name) is None else name for name in taken}
    return set(get_args(PartName)) - used


def _class_of(build: Any) -> Any:
    """The class that the command line's factory, or one of one's own, makes."""
    if isinstance(build, partial):
        return next((found for part in (build.func, *build.args) if (found := _class_of(part)) is not None), None)
    return build if isinstance(build, type) else None
