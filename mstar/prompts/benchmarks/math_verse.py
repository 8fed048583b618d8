"""MathVerse: 788 problems in versions that say more in words or more in the picture, 3,940 rows (arXiv 2403.14624)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar, Final

from mstar.errors import DataError
from mstar.prompts.benchmarks.base import SHOWN, BenchmarkItem, FileBenchmark, choice_prompt, clean
from mstar.prompts.benchmarks.files import BenchmarkRow
from mstar.prompts.question_text import infer_answer_type
from mstar.types import AnswerIs, AnswerType, Prompt

_CHOICES: Final = re.compile(r"\n\s*Choices?:\s*\n")
_CHOICE: Final = re.compile(r"^[^\S\n]*([A-H])[^\S\n]*[:.][^\S\n]*(.*?)[^\S\n]*$", re.MULTILINE)
# "Surface Area $=603.186$ units $^{2}$" is 603.186: what it is the value of is no part of an answer. "y=-2 x+5" is one.
_NAMED: Final = re.compile(r"(?:[A-Za-z][A-Za-z.]+(?: [A-Za-z.]+)*|\$\\mathrm\{SA\})? ?\$?=(?=[-\d(\\])")
_UNITS: Final = re.compile(r" ?(?:(?:square|cubic) )?(?:\\text ?\{ ?units ?\}|units)(?: ?\$?\^\{?[23]\}?\$?)?$")


class MathVerse(FileBenchmark):
    """MathVerse, by version (Text Dominant, Text Lite, Vision Intensive, Vision Dominant, Vision Only) and subject.

    ``path`` is testmini.parquet or testmini.json of AI4Math/MathVerse (pictures of images.zip in ``image_root``); the
    file testmini_text_only has no pictures, and cannot be read. Licence: MIT. Every version is a question of its own,
    as in the official score (evaluation/score_answer_s2.py of github.com/ZrrSkywalker/MathVerse), which asks a language
    model; so only our own rules can be applied. Of ``Vision Only``, whose question stands in the picture alone, the
    choices are known from ``question_for_eval`` and used for grading. Some golds are an option's text, or two letters,
    both of which must be named; subfields are those of a subject.
    """

    licence: ClassVar[str] = "MIT"
    default_split: ClassVar[str] = "testmini"
    needed: ClassVar[tuple[str, ...]] = (
        "sample_index", "problem_version", "question", "answer", "question_type", "metadata",
    )  # fmt: skip

    def _item(self, row: BenchmarkRow) -> BenchmarkItem:
        values, facts = row.values, row.values["metadata"]
        version, subject, answer = clean(values["problem_version"]), clean(facts["subject"]), clean(values["answer"])
        asked = clean(values["question"])
        question, *listed = _CHOICES.split(asked or clean(values.get("question_for_eval")), maxsplit=1)
        name = f"mathverse-{clean(values['sample_index'])}"
        if clean(values["question_type"]) == "multi-choice":
            choices = [text for _, text in _CHOICE.findall("".join(listed))]
            if not choices:
                raise DataError(f"the choices of '{name}' cannot be found; get the file with question_for_eval")
            golds = [_letter(gold, choices) for gold in answer.splitlines()]
            official = None if asked else SHOWN
            prompt = choice_prompt(name, question.strip(), row.images, choices, golds[0], version, official)
            if len(golds) > 1:
                kind = AnswerType.MULTI_SELECT
                prompt = replace(prompt, answer=", ".join(golds), answer_type=kind, answer_is=AnswerIs.LETTER)
        else:
            value = _value(answer)
            others = (answer,) if value != answer else ()
            kind = infer_answer_type(value, ())
            prompt = Prompt(name, asked or SHOWN, row.images, value, kind, answers=others, category=version)
        facets = (("version", version), ("subject", subject), ("subfield", f"{subject}: {clean(facts['subfield'])}"))
        return BenchmarkItem(prompt, facets, prompt.id, cluster=clean(values.get("problem_index")))


def _value(gold: str) -> str:
    """A gold answer without what it is the value of, and without units that are none."""
    named = _NAMED.match(gold)
    return _UNITS.sub("", gold if named is None else gold[named.end() :].replace("$", "")).strip()


def _letter(gold: str, choices: list[str]) -> str:
    """The letter of a gold answer that is one, with or without brackets, or the text of an option."""
    return chr(ord("A") + choices.index(gold)) if gold in choices else gold.strip("()")
