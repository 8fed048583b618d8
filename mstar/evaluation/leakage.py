"""Training prompts whose picture or question also stands in a benchmark."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Final

from tqdm.auto import tqdm

from mstar.atomic import atomic_path
from mstar.errors import ConfigError, DataError, counted
from mstar.evaluation.picture_hashes import HashBits, PictureHashes, difference_hash, meeting_pictures, pixel_hash
from mstar.prompts import PromptSource
from mstar.prompts.images import FileImage
from mstar.prompts.mathvista_text import parse_question
from mstar.types import ImageReference

_SHOWN: Final = 5
_THREADS: Final = 8
_PUNCTUATION: Final = re.compile(r"[^\w+\-*/=<>%^]+")


class LeakKind(StrEnum):
    """What a training prompt and a benchmark's prompt have in common; the strongest first."""

    SAME_IMAGE_AND_QUESTION = "same_image_and_question"
    SIMILAR_IMAGE_AND_QUESTION = "similar_image_and_question"
    SAME_IMAGE = "same_image"
    SIMILAR_IMAGE = "similar_image"
    QUESTION = "question"


@dataclass(frozen=True, slots=True)
class Leak:
    """One training prompt that meets one prompt of a benchmark.

    Attributes:
        distance: Differing bits of 256 of the pictures' difference hashes; None where the pictures do not meet.
    """

    kind: LeakKind
    train_id: str
    benchmark: str
    benchmark_id: str
    distance: int | None = None
    train_image: str | None = None
    benchmark_image: str | None = None


@dataclass(frozen=True, slots=True)
class LeakageReport:
    """What was found.

    Attributes:
        unreadable: Pictures that could not be decoded, and were not compared.
    """

    leaks: tuple[Leak, ...]
    train_prompts: int
    benchmark_prompts: dict[str, int]
    unreadable: tuple[str, ...]

    def counts(self) -> dict[str, Counter[LeakKind]]:
        """For every benchmark, how many of its prompts are met, each by the strongest kind that meets it."""
        order = list(LeakKind)
        strongest: dict[tuple[str, str], LeakKind] = {}
        for leak in self.leaks:
            key = (leak.benchmark, leak.benchmark_id)
            strongest[key] = min(strongest.get(key, leak.kind), leak.kind, key=order.index)
        found = {name: Counter[LeakKind]() for name in self.benchmark_prompts}
        for (name, _), kind in strongest.items():
            found[name][kind] += 1
        return found


def check_leakage(
    train: PromptSource,
    benchmarks: list[PromptSource],
    output: str = "leakage.jsonl",
    max_distance: int = 10,
) -> None:
    """Reports training prompts whose picture or question also stands in a benchmark.

    Pictures are compared by their decoded pixels (same_image) and by a 256-bit difference hash that survives scaling
    and compression (similar_image); questions by their words, without hints, choices and the line that a source adds to
    each. A question alone ("What is the value of x?") is weak evidence, and a picture alone may be asked about
    differently: look at the pairs.

    Args:
        train: The training prompts.
        benchmarks: The benchmarks.
        output: The file of the pairs, one JSON object a line; ids of training prompts are in ``train_id``.
        max_distance: Differing bits, of 256, up to which pictures count as similar; 0 for equal hashes only.
    """
    report = find_leaks(train, benchmarks, max_distance=max_distance)
    with atomic_path(Path(output)) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(leak), ensure_ascii=False) + "\n" for leak in report.leaks)
    sys.stdout.write(f"{_summarise(report)}\n{output}\n")


def _summarise(report: LeakageReport) -> str:
    lines = [f"{counted(report.train_prompts, 'training prompt')}."]
    for name, counts in report.counts().items():
        total = report.benchmark_prompts[name]
        lines.append(f"{name}: {counts.total()} of {total} prompts met ({100 * counts.total() / max(total, 1):.1f} %)")
        lines += [f"  {counts[kind]:6d}  {kind.value}" for kind in LeakKind if counts[kind]]
    if report.unreadable:
        shown = ", ".join(report.unreadable[:_SHOWN])
        lines.append(f"{len(report.unreadable)} pictures cannot be decoded and were not compared: {shown}")
    return "\n".join(lines)


def find_leaks(train: PromptSource, benchmarks: Sequence[PromptSource], *, max_distance: int = 10) -> LeakageReport:
    """Compares a training set with benchmarks; every picture is decoded once.

    Raises:
        ConfigError: a number is out of its range, or there is no benchmark.
    """
    if not 0 <= max_distance < 64:
        raise ConfigError(f"max_distance is {max_distance}, but of 256 bits fewer than 64 may differ; choose about 10.")
    if not benchmarks:
        raise ConfigError("there is no benchmark to compare with; give at least one in 'benchmarks'.")
    trained = _Table.of(train, "train")
    leaks: list[Leak] = []
    unreadable = list(trained.unreadable)
    sizes: dict[str, int] = {}
    for name, source in zip(_names(benchmarks), benchmarks, strict=True):
        table = _Table.of(source, name)
        sizes[name] = len(source)
        unreadable += table.unreadable
        leaks += _compare(trained, table, name, max_distance)
    return LeakageReport(tuple(leaks), len(train), sizes, tuple(unreadable))


def _names(sources: Sequence[PromptSource]) -> list[str]:
    """The sources' names; of those that share one, with their paths, and where these are the same with a number."""
    names = [source.title for source in sources]
    origins = [f" ({source.origin})" if source.origin else "" for source in sources]
    for more in (origins, [f" #{number}" for number in range(1, len(sources) + 1)]):
        count = Counter(names)
        names = [name + other if count[name] > 1 else name for name, other in zip(names, more, strict=True)]
    return names


@dataclass(frozen=True, slots=True)
class _Table:
    """A source's prompts by their pictures and questions.

    Attributes:
        images: Every picture's name, and the ids of the prompts that show it.
        questions: For every normalised question, the ids of the prompts that ask it.
    """

    images: list[tuple[str, list[str]]]
    hashes: PictureHashes
    questions: dict[str, list[str]]
    unreadable: list[str]

    @classmethod
    def of(cls, source: PromptSource, name: str) -> _Table:
        questions: dict[str, list[str]] = defaultdict(list)
        # Sources that are mixed may have files of the same name in folders of their own.
        references: dict[FileImage | str, ImageReference] = {}
        owners: dict[FileImage | str, list[str]] = defaultdict(list)
        added = {member.instruction for member in source.members()} - {""}
        for prompt in source:
            question = prompt.question
            for instruction in added:
                question = question.removesuffix(f"\n{instruction}")
            questions[normalise_question(question)].append(prompt.id)
            for image in prompt.images:
                key = image if isinstance(image, FileImage) else image.uri
                references.setdefault(key, image)
                owners[key].append(prompt.id)
        images: list[tuple[str, list[str]]] = []
        hashes: list[tuple[str, HashBits]] = []
        unreadable: list[str] = []
        # Pillow decodes without holding Python's lock.
        with ThreadPoolExecutor(_THREADS) as pool:
            bar = tqdm(
                pool.map(_hash, references.values()), total=len(references), desc=name, unit="picture", leave=False
            )
            for (key, image), found in zip(references.items(), bar, strict=True):
                if found is None:
                    unreadable.append(image.uri)
                else:
                    images.append((image.uri, owners[key]))
                    hashes.append(found)
        return cls(images, PictureHashes.of(hashes), questions, unreadable)


def _hash(reference: ImageReference) -> tuple[str, HashBits] | None:
    try:
        image = reference.load()
    except DataError:
        return None  # it is counted, and named in the report
    return pixel_hash(image), difference_hash(image)


def normalise_question(question: str) -> str:
    """The words of a question, without hint, choices, case and punctuation."""
    text, _ = parse_question(question)
    return " ".join(_PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split())


def _compare(train: _Table, other: _Table, name: str, max_distance: int) -> Iterator[Leak]:
    asked: dict[str, set[str]] = {}
    for question, ids in other.questions.items():
        if question:
            for prompt_id in ids:
                asked[prompt_id] = set(train.questions.get(question, ()))
    met: set[tuple[str, str]] = set()
    pictures = list(meeting_pictures(train.hashes, other.hashes, max_distance))
    # Two prompts with several pictures meet by the first pair: the same ones come before similar ones.
    pictures.sort(key=lambda pair: train.hashes.pixels[pair[0]] != other.hashes.pixels[pair[1]])
    for i, j, distance in pictures:
        same = train.hashes.pixels[i] == other.hashes.pixels[j]
        (train_image, trained), (other_image, tested) = train.images[i], other.images[j]
        for train_id, benchmark_id in product(trained, tested):
            if (train_id, benchmark_id) not in met:
                met.add((train_id, benchmark_id))
                both = train_id in asked.get(benchmark_id, ())
                kind = {
                    (True, True): LeakKind.SAME_IMAGE_AND_QUESTION,
                    (True, False): LeakKind.SAME_IMAGE,
                    (False, True): LeakKind.SIMILAR_IMAGE_AND_QUESTION,
                    (False, False): LeakKind.SIMILAR_IMAGE,
                }[same, both]
                yield Leak(kind, train_id, name, benchmark_id, distance, train_image, other_image)
    for benchmark_id, train_ids in asked.items():
        for train_id in sorted(train_ids):
            if (train_id, benchmark_id) not in met:
                yield Leak(LeakKind.QUESTION, train_id, name, benchmark_id)
