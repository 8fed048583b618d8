"""We-Math: 525 problems with the steps that they are made of, 1,740 rows in testmini (Qiao et al. 2024, 2407.01284)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from mstar.prompts.benchmarks.base import BenchmarkItem, FileBenchmark, choice_prompt, clean, groups, without_pictures
from mstar.prompts.benchmarks.files import BenchmarkRow

# A letter with a text behind it; ";C.;" is the name of a point, at the end of an option.
_OPTION: Final = re.compile(r"(?:^|[;\uff1b])\s*([A-H])\s*[.\u3001\uff0e]\s*(?![\s;\uff1b]|$)")
# The same behind a blank: "A. 4 B. 3 C. 2 ;D. 1".
_BLANK_OPTION: Final = re.compile(r"(?:^|[;\uff1b\s])\s*([A-H])\s*[.\u3001\uff0e]\s*(?![\s;\uff1b]|$)")


class WeMath(FileBenchmark):
    """We-Math, by number of steps and knowledge concept, with its four-dimensional metrics.

    ``path`` is the folder or file of We-Math/We-Math (data/testmini-*.parquet). A problem of two or three steps is
    asked whole, and step by step. What of it is right makes the official figures (github.com/We-Math/We-Math):
    insufficient knowledge (the whole is wrong, and a step), inadequate generalization (the whole alone is wrong),
    complete mastery and rote memorization (the whole is right, and the steps are, or are not), and the score, mastery
    plus half of inadequate generalization. Mastery asks for all steps (strict) or for one of them (loose). The share of
    rote memorization is of the problems whose whole is right, the other shares are of all. Licence: CC BY-NC 4.0.
    """

    licence: ClassVar[str] = "CC BY-NC 4.0"
    default_split: ClassVar[str] = "testmini"
    image_columns: ClassVar[tuple[str, ...]] = ("image_path", "image")
    needed: ClassVar[tuple[str, ...]] = ("ID", "question", "option", "answer", "key")

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values = row.values
        key = clean(values["key"])
        parts = _OPTION.split(clean(values["option"]))
        if "".join(parts[1::2]) not in "ABCDEFGH":
            parts = _BLANK_OPTION.split(clean(values["option"]))
        choices = [text.strip().rstrip(";\uff1b").strip() for text in parts[2::2]]
        prompt = choice_prompt(
            prompt_id=f"wemath-{clean(values['ID'])}-{key.rpartition('_')[2]}",
            question=without_pictures(str(values["question"])),
            images=row.images,
            choices=choices,
            letter=clean(values["answer"]).upper(),
            category=key,
        )
        facets = groups({"key": key, "concept": values.get("knowledge concept")})
        # A problem and its steps are about the same.
        return BenchmarkItem(prompt, facets, prompt.id, cluster=prompt.id.rpartition("-")[0])

    def figures(self, correct: Mapping[str, bool]) -> Mapping[str, Sequence[float]]:
        """The four-dimensional metrics, each a value for every problem."""
        problems: dict[str, dict[str, bool]] = defaultdict(dict)
        for prompt_id, right in correct.items():
            problem, _, step = prompt_id.rpartition("-")
            problems[problem][step] = right
        found: dict[str, list[float]] = defaultdict(list)
        for answers in problems.values():
            whole = answers.pop("multi", None)
            if whole is None or not answers:
                continue
            every, some = all(answers.values()), any(answers.values())
            found["insufficient knowledge"].append(float(not whole and not every))
            found["inadequate generalization"].append(float(not whole and every))
            for name, mastered in (("strict", every), ("loose", some)):
                found[f"complete mastery ({name})"].append(float(whole and mastered))
                found[f"score ({name})"].append(float(whole and mastered) + 0.5 * (not whole and every))
                if whole:
                    found[f"rote memorization ({name})"].append(float(not mastered))
        return found
