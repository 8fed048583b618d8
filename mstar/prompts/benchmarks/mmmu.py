"""MMMU: college subjects, 900 questions in validation (Yue et al. 2023, arXiv 2311.16502), and MMMU-Pro."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final, Literal

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import (
    SHOWN,
    BenchmarkItem,
    BenchmarkSource,
    FileBenchmark,
    build_items,
    choice_prompt,
    clean,
    groups,
    require,
)
from mstar.prompts.benchmarks.files import BenchmarkRow, read_benchmark
from mstar.prompts.field_values import parse
from mstar.prompts.images import PixelLimits
from mstar.prompts.question_text import infer_answer_type, read_choices
from mstar.types import AnswerType, Prompt

_IMAGES: Final = tuple(f"image_{number}" for number in range(1, 8))
# At which the official rule compares numbers.
_DECIMALS: Final = 2
_TAG: Final = re.compile(r"<image (\d+)>")
# The groups of the official score (eval/ of github.com/MMMU-Benchmark/MMMU).
_DISCIPLINES: Final[Mapping[str, str]] = {
    subject: discipline
    for discipline, subjects in {
        "Art and Design": "Art Art_Theory Design Music",
        "Business": "Accounting Economics Finance Manage Marketing",
        "Science": "Biology Chemistry Geography Math Physics",
        "Health and Medicine": "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine Pharmacy "
        "Public_Health",
        "Humanities and Social Science": "History Literature Sociology Psychology",
        "Tech and Engineering": "Agriculture Architecture_and_Engineering Computer_Science Electronics "
        "Energy_and_Power Materials Mechanical_Engineering",
    }.items()
    for subject in subjects.split()
}
_FOLDERS: Final = {"standard": "standard (10 options)", "standard_4": "standard (4 options)", "vision": "vision"}


class MMMU(FileBenchmark):
    """MMMU, by discipline and subject. Licence: Apache-2.0.

    ``path`` is the folder of MMMU/MMMU (a folder a subject) or of a subject, or of lmms-lab/MMMU; the answers of test
    are not public. Where the official rule (github.com/MMMU-Benchmark/MMMU) finds no answer, it draws an option; here
    the response is wrong. An open question has a gold answer or a list of them, and of numbers two decimals count, as
    that rule has it. ``<image 2>`` is asked as (image 2), also where the row lacks that picture: the options of
    validation_Math_7, as its authors ran it, name 24 that its seven columns cannot hold.
    """

    licence: ClassVar[str] = "Apache-2.0"
    default_split: ClassVar[str] = "validation"
    image_columns: ClassVar[tuple[str, ...]] = _IMAGES
    needed: ClassVar[tuple[str, ...]] = ("id", "question", "options", "answer", "question_type")

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        if values["question_type"] == "multiple-choice":
            return _choice_item(row, "mmmu", str(values["question"]))
        golds = tuple(map(str, found)) if isinstance(found := parse(values["answer"]), list) else (str(found),)
        if golds[0] in ("", "?"):
            raise DataError("it has no answer; the answers of test are not public, use validation")
        number = any(infer_answer_type(gold, ()) is not AnswerType.TEXT for gold in golds)
        prompt = Prompt(f"mmmu-{values['id']}", _name_images(str(values["question"])), row.images, golds[0])
        prompt = replace(prompt, answers=golds[1:], answer_type=AnswerType.FLOAT if number else AnswerType.TEXT)
        return _grouped(replace(prompt, precision=_DECIMALS if number else None), row)


class MMMUPro(BenchmarkSource):
    """MMMU-Pro (Yue et al. 2024, arXiv 2409.02813), 1,730 questions a setting, by setting and subject. Apache-2.0.

    Args:
        path: The folder of MMMU/MMMU_Pro.
        setting: standard (10 options), vision (the question is in the picture), standard_4; both is standard and
            vision, whose mean is the benchmark's score.
        instruction: A line that is added to every question.
        pixels: Least and most pixels of a picture.

    Raises:
        DataError: a setting's files are not there, or cannot be read.
    """

    licence: ClassVar[str] = "Apache-2.0"

    def __init__(
        self,
        path: str,
        setting: Literal["both", "standard", "standard_4", "vision"] = "both",
        instruction: str = "",
        pixels: PixelLimits = PixelLimits(),  # noqa: B008 - frozen, so sharing it is safe
    ) -> None:
        self.origin, self.instruction = path, instruction
        self.averaged = "setting" if setting == "both" else ""
        items = []
        for name in ("standard", "vision") if setting == "both" else (setting,):
            columns = ("image",) if name == "vision" else _IMAGES
            folder = str(Path(path, _FOLDERS[name]))
            rows = read_benchmark(folder, columns, ("test",), None, pixels)
            require("MMMU-Pro", folder, rows, ("id", "options", "answer"))

            def build(row: BenchmarkRow, name: str = name) -> BenchmarkItem:
                asked = None if name == "vision" else str(row.values["question"])
                return _choice_item(row, f"mmmu-pro-{name}", asked, name)

            items += build_items("MMMU-Pro", rows, build, instruction)
        super().__init__("MMMU-Pro", items)


def _choice_item(row: BenchmarkRow, prefix: str, question: str | None, setting: str = "") -> BenchmarkItem:
    values = row.values
    options, _ = read_choices(values["options"], "options")
    choices = [_name_images(option) for option in options]
    prompt = choice_prompt(
        prompt_id=f"{prefix}-{values['id']}",
        question=_name_images(question or ""),
        images=row.images,
        choices=choices,
        letter=clean(values["answer"]),
        category="",
        official=None if question is not None else SHOWN,
    )
    return _grouped(prompt, row, setting)


def _grouped(prompt: Prompt, row: BenchmarkRow, setting: str = "") -> BenchmarkItem:
    """The item of a question; where no column has its subject, its id says it: validation_Art_Theory_7."""
    name = clean(row.values["id"])
    subject = clean(row.values.get("subject")) or name.partition("_")[2].rpartition("_")[0]
    facets = groups({"setting": setting, "discipline": _DISCIPLINES.get(subject), "subject": subject})
    # MMMU-Pro asks the same question in each of its settings.
    return BenchmarkItem(replace(prompt, category=subject), facets, prompt.id, cluster=name)


def _name_images(text: str) -> str:
    return _TAG.sub(r"(image \1)", text).strip()
