"""What a survey counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mstar.evaluation.prompt_survey
from mstar.errors import DataError
from mstar.evaluation.prompt_survey import (
    count_lengths,
    describe_lengths,
    describe_survey,
    spread,
    summarise,
    survey_prompts,
)
from mstar.prompts import PromptSource, RecordPrompts, TinyDice
from mstar.prompts.quarantine import Reason
from mstar.types import AnswerType, Prompt
from tests.prompts.record_files import write_lines


class Broken:
    """A picture that cannot be decoded."""

    uri = "broken.png"

    def load(self) -> Image.Image:
        raise DataError("the image 'broken.png' is no picture")


class Few(PromptSource):
    """Four prompts: a usual one, one without answer, one with an answer of no option, one with a broken picture."""

    def __init__(self) -> None:
        usual, *others = TinyDice("seed", 4)
        self.prompts: list[Prompt] = [
            replace(usual, answer="7", answer_type=AnswerType.INTEGER),
            replace(others[0], answer=None, rationale=None, images=()),
            replace(others[1], answer="z", answer_type=AnswerType.MULTI_CHOICE, choices=("one", "two")),
            replace(others[2], answer="yes", answer_type=AnswerType.TEXT, images=(Broken(),)),
        ]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Prompt:
        return self.prompts[index]

    def index_of(self, prompt_id: str) -> int | None:
        return [prompt.id for prompt in self.prompts].index(prompt_id)


def test_numbers_are_spread_evenly() -> None:
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 8) == [0, 1, 2]


def test_every_prompt_counts(tiny: Any) -> None:
    source = Few()
    found = survey_prompts(source)
    assert (found.counts["prompts"], found.counts["answers"], found.counts["rationales"]) == (4, 3, 3)
    assert found.pictures == {1: 3, 0: 1}
    assert (found.counts["gradeable"], found.ungradeable) == (2, (source[2].id, "z"))
    said = dict(describe_survey(found))
    assert said["gradeable"] == "2 of 3 gold answers"
    assert said["pictures"] == "3 with 1, 1 with none"
    lengths = count_lengths(source, tiny.renderer, 100)
    assert lengths.prompts == tuple(tiny.renderer.count_tokens(prompt) for prompt in source.prompts[:3])
    [bad] = lengths.unusable
    assert (bad.reason, bad.content["id"]) == (Reason.BROKEN_IMAGE, source[3].id)
    said = dict(describe_lengths(lengths, None))
    assert said[""].startswith("1 cannot be shown: broken_image, first prompt 'seed-0-3': the image 'broken.png' is no")


def test_rationales_that_are_an_answer_alone_are_said(tmp_path: Path) -> None:
    """R1-V's data sets."""
    said = "<answer> 145° </answer>", "1 + 1 = 2\n#### 2"
    rows = [{"problem": f"{number}?", "solution": text} for number, text in enumerate(said)]
    found = survey_prompts(RecordPrompts(write_lines(tmp_path / "data.jsonl", rows)))
    assert found.counts["bare"] == 1
    assert "1 rationales are an answer and nothing else" in "\n".join(text for _, text in describe_survey(found))


def test_a_source_is_summed_up_in_five_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": f"{number}?", "answer": answer} for number, answer in enumerate(["12", "blue", "", "14"])]
    path = write_lines(tmp_path / "data.jsonl", rows)
    source = RecordPrompts(path, max_bad_share=0.5)
    assert list(summarise("data.train", source)) == [
        f"data.train: 3 prompts of {source.title} from 4 rows",
        "  columns: question = question, answer = answer",
        "  answers: 2 integer, 1 text; gradeable 3 of 3 looked at",
        "  pictures: 3 with none",
        "  put aside: 1 of 4 rows (1 no_answer)",
    ]
    # Of what has no table, and of gold answers, some are looked at; not one picture is opened.
    assert list(summarise("data.test", Few())) == [
        "data.test: 4 prompts of Few",
        "  answers: 2 integer, 1 multi_choice, 1 text; gradeable 2 of 3 looked at",
        "  pictures: 3 with 1, 1 with none",
    ]
    monkeypatch.setattr(mstar.evaluation.prompt_survey, "_LOOKED_AT", 2)
    assert list(summarise("data.test", Few()))[1] == (
        "  answers (2 looked at): 1 integer, 1 multi_choice; gradeable 1 of 2 looked at"
    )
    assert list(summarise("data.train", source))[2] == "  answers: 2 integer, 1 text; gradeable 2 of 2 looked at"
    hidden = RecordPrompts(path, hide_answers=True, max_bad_share=0.5)
    assert list(summarise("data.unlabelled", hidden))[2] == "  answers: none, or hidden"
