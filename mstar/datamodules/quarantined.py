"""Data in use: what turns out to be unusable is put aside, counted, and the rest goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from torch.utils.data import Dataset

from mstar.datamodules.rationales import Rationales
from mstar.distributed import rank, world_size
from mstar.errors import DataError, require_least, require_share
from mstar.prompts import PromptSource
from mstar.prompts.prompt_check import PromptCheck, describe
from mstar.prompts.quarantine import QuarantineFile, RowError
from mstar.types import Example, Prompt

Pair = tuple[Prompt, Example]


def require_limits(
    max_prompt_tokens: int | None, max_example_tokens: int | None, max_bad_share: float | None, num_workers: int
) -> None:
    """Makes sure that a data module's limits can work.

    Raises:
        ConfigError: one cannot.
    """
    require_least("data.", max_prompt_tokens=max_prompt_tokens, max_example_tokens=max_example_tokens)
    require_share("data.max_bad_share", max_bad_share)
    require_least("data.", 0, num_workers=num_workers)


class Quarantine:
    """The files of what this process puts aside: ``<run>/quarantine/<part of the data>.jsonl``."""

    def __init__(self, max_bad_share: float | None) -> None:
        self.max_bad_share = max_bad_share
        self._files: dict[str, QuarantineFile] = {}

    def file(self, root: str | Path, name: str, size: int, processes: int | None = None) -> QuarantineFile:
        """The file of one part of the data; empty when it is first asked for.

        Args:
            name: The part, e.g. ``validation``.
            size: Its rows, which the processes share out.
        """
        processes = world_size() if processes is None else processes
        share = math.ceil(size / processes)
        if name not in self._files:
            path = Path(root, "quarantine", f"{name}.jsonl" if processes == 1 else f"{name}-{rank()}.jsonl")
            self._files[name] = QuarantineFile(path, f"data.{name}", share, self.max_bad_share, "data.max_bad_share")
            self._files[name].clear()
        # The first loader of a self-evolving run holds a placeholder; the real data comes later, under the same name.
        self._files[name].total = share
        return self._files[name]

    def announce(self) -> None:
        """Says what was put aside, once."""
        for file in self._files.values():
            file.announce()
        self._files = {}


T = TypeVar("T", covariant=True)


class Rows(Protocol[T]):
    """Rows by their numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> T: ...


class UsablePairs(Dataset[Pair]):
    """Examples with their pictures decoded; the next usable one takes the place of one that cannot be used.

    So every process has as many batches, all of the same size, as if none were bad.
    """

    def __init__(self, pairs: Rows[Pair], check: PromptCheck, quarantine: QuarantineFile) -> None:
        self.pairs = pairs
        self.check = check
        self.quarantine = quarantine

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        size = len(self.pairs)
        for place in chain(range(index, size), range(index)):
            prompt, example = self.pairs[place]
            try:
                return self.check.open(prompt, example.response), example
            except RowError as error:
                row = int(self.pairs.rows[place]) if isinstance(self.pairs, Rationales) else place
                self.quarantine.add([describe(prompt, error, row)])
        raise DataError(f"{self.quarantine.name}: none of the {size} examples can be used; see {self.quarantine.path}.")


class PromptBatch:
    """Prompts for evaluation, all at once.

    A plain class, because Lightning looks for tensors inside lists and dataclasses and refuses frozen ones.
    """

    def __init__(self, prompts: list[Prompt]) -> None:
        self.prompts = prompts


def usable_prompts(
    source: PromptSource, check: PromptCheck, quarantine: QuarantineFile, rows: Sequence[int]
) -> PromptBatch:
    """Some prompts of a source -> a batch without those that cannot be used, which are put into the quarantine."""
    usable, bad = check.sift([source[row] for row in rows], rows)
    quarantine.add(bad)
    return PromptBatch(usable)
