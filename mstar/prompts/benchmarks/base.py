"""What every benchmark is: prompts, the groups that its scores are reported by, and which rows are one question."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

from mstar.errors import DataError
from mstar.prompts.base import PromptSource
from mstar.prompts.benchmarks.files import BenchmarkRow, read_benchmark
from mstar.prompts.images import FileImage, PixelLimits
from mstar.prompts.quarantine import RowError
from mstar.prompts.question_text import render_choices
from mstar.types import AnswerType, ImageReference, Prompt

_MISSING: Final = ("", "nan")
_PICTURE: Final = re.compile(r"\s*<image ?\d*>")
# What is asked where the question stands in the picture alone.
SHOWN: Final = "Answer the question that is written in the picture."


@dataclass(frozen=True, slots=True)
class LabelledSteps:
    """A response with its human labels.

    Attributes:
        labels: For every step 1 (right), -1 (wrong) or 0 (not judged).
    """

    steps: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BenchmarkItem:
    """One row of a benchmark.

    Attributes:
        facets: The groups that it is reported in, as (dimension, value); a dimension may occur more than once.
        question_key: Rows with the same key are one question, which counts as right only if all of them are, in the
            groups of the first of them.
        steps: The response that a benchmark of labelled steps has to it.
        cluster: What it shares with other questions, such as the one that they are variants of: intervals draw all of
            these together. Empty for a question of its own.
    """

    prompt: Prompt
    facets: tuple[tuple[str, str], ...]
    question_key: str
    steps: LabelledSteps | None = None
    cluster: str = ""


class BenchmarkSource(PromptSource):
    """The prompts of a benchmark; its texts are in memory, its pictures are decoded when they are loaded.

    Attributes:
        name: Its name, as it stands in tables.
        notes: What a reader of the scores must know of this copy of it.
        licence: What its licence allows, in one line for the report.
        pictured: Whether its questions have pictures.
        test_only: Whether its licence prohibits training on it.
        averaged: The dimension whose values' mean is the benchmark's own headline score; empty for the plain share.

    Args:
        items: The rows.

    Raises:
        DataError: there is none, two have the same id, none has a picture, or a picture's file is missing.
    """

    licence: ClassVar[str] = ""
    pictured: ClassVar[bool] = True
    test_only: ClassVar[bool] = False
    averaged: str = ""
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, items: Sequence[BenchmarkItem]) -> None:
        if not items:
            raise DataError(f"{name}: the file has no rows; check the path, the split and the subset.")
        self.name = name
        self.items = tuple(items)
        self._index: dict[str, int] = {}
        for index, item in enumerate(self.items):
            if self._index.setdefault(item.prompt.id, index) != index:
                first = self._index[item.prompt.id]
                raise DataError(f"{name}: rows {first} and {index} have the same id '{item.prompt.id}'; mend the file.")
        if self.pictured:
            _check_pictures(name, self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Prompt:
        if not 0 <= index < len(self.items):
            raise IndexError(index)
        return self.items[index].prompt

    def figures(self, correct: Mapping[str, bool]) -> Mapping[str, Sequence[float]]:
        """Official figures beside the share of right rows, each with values in [0, 1] whose mean it is.

        Args:
            correct: For every prompt id, whether the greedy response is right.
        """
        return {}

    def index_of(self, prompt_id: str) -> int | None:
        """The index of the prompt with this id; see the interface."""
        return self._index.get(prompt_id)


class FileBenchmark(BenchmarkSource):
    """A benchmark of which a row of the file is one prompt.

    Attributes:
        default_split: The split that is reported; empty if there is one.
        image_folder: Where picture files are beside a data file, if no ``image_root`` is given; empty is beside it.

    Args:
        path: The folder or the file as it is published.
        split: Which split of a folder; none is the one that is reported.
        image_root: The folder of picture files, for copies that name them; none is the folder of the data.
        instruction: A line that is added to every question.
        pixels: Least and most pixels of a picture.

    Raises:
        DataError: the file cannot be read.
    """

    default_split: ClassVar[str] = ""
    image_columns: ClassVar[tuple[str, ...]] = ("image",)
    image_folder: ClassVar[str] = ""
    needed: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        path: str,
        split: str | None = None,
        image_root: str | None = None,
        instruction: str = "",
        pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
    ) -> None:
        self.origin, self.instruction = path, instruction
        name, chosen = type(self).__name__, self.default_split if split is None else split
        splits = self._names(chosen) if chosen else ()
        found = read_benchmark(path, self.image_columns, splits, image_root, pixels, self.image_folder)
        rows = self._prepare(found, splits)
        require(name, path, rows, self.needed)
        super().__init__(name, build_items(name, rows, self._item, instruction))
        self.notes = self._find_notes()

    def _prepare(self, rows: Sequence[BenchmarkRow], splits: Sequence[str]) -> Sequence[BenchmarkRow]:
        """The rows that are used, as ``_item`` reads them; ``splits`` are the split's names."""
        return rows

    def _find_notes(self) -> tuple[str, ...]:
        """What a reader of the scores must know of this copy."""
        return ()

    def _names(self, split: str) -> tuple[str, ...]:
        """What files of a split may be called."""
        return (split,)

    @abstractmethod
    def _item(self, row: BenchmarkRow) -> BenchmarkItem | None:
        """Makes the item of a row; None if there is no question in it."""


class StepBenchmark(FileBenchmark):
    """A benchmark of labelled steps, one response a prompt."""

    @cached_property
    def steps(self) -> dict[str, LabelledSteps]:
        """For every prompt's id, the response to it."""
        return {item.prompt.id: item.steps for item in self.items if item.steps is not None}


def _check_pictures(name: str, items: Sequence[BenchmarkItem]) -> None:
    """Finds missing files now rather than hours into a run."""
    images = {image.uri: image for item in items for image in item.prompt.images}
    if not images:
        raise DataError(f"{name}: no row has a picture; check that the file has its image column.")
    files = [image for image in images.values() if isinstance(image, FileImage)]
    missing = [image for image in files if not Path(image.root, image.path).is_file()]
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(images)} pictures are missing, the first of them "
            f"'{Path(missing[0].root, missing[0].path)}'; check image_root."
        )


def build_items(
    name: str,
    rows: Iterable[BenchmarkRow],
    build: Callable[[BenchmarkRow], BenchmarkItem | None],
    instruction: str = "",
) -> list[BenchmarkItem]:
    """Makes the items of a benchmark's rows.

    A benchmark is scored as a whole, so a row that cannot be read is an error and is not left out.

    Raises:
        DataError: a row cannot be read.
    """
    items: list[BenchmarkItem] = []
    faults: list[str] = []
    for row in rows:
        try:
            item = build(row)
        except (KeyError, TypeError, ValueError, DataError, RowError) as error:
            faults.append(f"row {row.number} cannot be read: {error}")
            continue
        if item is not None and instruction:
            item = replace(item, prompt=replace(item.prompt, question=f"{item.prompt.question}\n{instruction}"))
        if item is not None:
            items.append(item)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DataError(f"{name}: {faults[0]}{more}; get the file again, or mend it.")
    return items


def choice_prompt(
    prompt_id: str,
    question: str,
    images: tuple[ImageReference, ...],
    choices: Sequence[str],
    letter: str,
    category: str,
    official: str | None = None,
) -> Prompt:
    """A multiple-choice prompt; ``official`` is asked in the place of the question with its options."""
    return Prompt(
        id=prompt_id,
        question=render_choices(question, choices) if official is None else official,
        images=images,
        answer=gold_choice(choices, letter),
        answer_type=AnswerType.MULTI_CHOICE,
        choices=tuple(choices),
        category=category,
    )


def gold_choice(choices: Sequence[str], letter: str) -> str:
    """The gold answer of a multiple-choice question: the text of the option that the letter names.

    The text, because the options of some questions are letters themselves: of ``c, D, b, a`` the answer "A" would be
    the last option by its text and the first by its letter. An empty option has its letter alone.

    Raises:
        DataError: the letter names no option.
    """
    place = ord(letter) - ord("A") if len(letter) == 1 else -1
    if not 0 <= place < len(choices):
        raise DataError(f"the answer '{letter}' names none of the {len(choices)} options")
    return choices[place] if choices[place].strip() else letter


def lettered_options(options: Mapping[str, str], letter: str, *, keep_letters: bool) -> tuple[list[str], str]:
    """The options that are there, and the right one's letter among them.

    Args:
        options: Texts by letter from A, some of them empty or "nan".
        letter: The letter of the right one, which counts as there whatever its text is.
        keep_letters: Keep an empty option between others, so that every option keeps its letter.

    Raises:
        DataError: the letter names no option, or fewer than two are left.
    """
    if letter not in options:
        raise DataError(f"the answer '{letter}' names none of the options {list(options)}")
    given = [name for name in sorted(options) if name == letter or clean(options[name])]
    if keep_letters and given:
        given = [name for name in sorted(options) if name <= given[-1]]
    if len(given) < 2:
        raise DataError("the question has fewer than two options")
    return [options[name].strip() for name in given], chr(ord("A") + given.index(letter))


def clean(value: Any) -> str:
    """A cell as text; what pandas writes for a missing one is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).strip()
    return "" if text.casefold() in _MISSING else text


def groups(values: Mapping[str, Any], *names: str) -> tuple[tuple[str, str], ...]:
    """The groups that a row is in by its columns of these names, or by all; an empty one is none."""
    return tuple((name, text) for name in names or values if (text := clean(values.get(name))))


def without_pictures(text: str) -> str:
    """The text without the marks of its pictures, e.g. ``<image1>``."""
    return _PICTURE.sub("", text).strip()


def require(name: str, path: str, rows: Iterable[BenchmarkRow], needed: Sequence[str]) -> None:
    """Makes sure that a file has the benchmark's columns.

    Raises:
        DataError: one is missing.
    """
    columns = dict.fromkeys(column for row in rows for column in row.values)
    missing = [column for column in needed if column not in columns]
    if missing:
        raise DataError(f"{name}: '{path}' lacks the columns {missing}; it has {list(columns)}: is it the right file?")
