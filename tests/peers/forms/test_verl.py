"""verl's form, read by its documented columns."""

from __future__ import annotations

from pathlib import Path

from mstar.grading import AnswerGrader
from mstar.peers.forms import FORMS
from mstar.peers.pictures import Pictures
from mstar.peers.rows import Sampled
from mstar.peers.writing import write_rows
from mstar.prompts.response_rows import to_prompt
from mstar.types import AnswerIs, AnswerType, Prompt, Tolerance

from ..conftest import turns  # type: ignore[import-not-found]
from .conftest import ASKED, export, parquet  # type: ignore[import-not-found]


def test_verl(run: Path) -> None:
    folder = export(run, "verl")
    rows = parquet(folder / "rl.parquet")
    file, chat, _ = rows
    assert (file["data_source"], file["prompt"]) == ("mstar", turns("<image>Which colour?"))
    assert [row["reward_model"] for row in rows] == [
        {"style": "rule", "ground_truth": answer} for answer in ("red", "3", "2")
    ]
    assert chat["prompt"] == ASKED
    assert chat["extra_info"]["prompt_id"] == "chat"
    assert [len(row["images"]) for row in rows] == [1, 1, 0]
    assert parquet(folder / "sft.parquet")[0]["messages"][-1]["content"] == "It is\nAnswer: red"


def test_a_reward_by_rule_knows_of_verl_s_rows_what_is_right(tmp_path: Path) -> None:
    near, index = {"tolerance": Tolerance(relative=0.05), "unit": "cm", "precision": 1}, {"answer_is": AnswerIs.INDEX0}
    asked = [
        Prompt("l", "?", answer="1", answer_type=AnswerType.MULTI_CHOICE, choices=("B", "A"), **index),
        Prompt("f", "?", answer="100", answer_type=AnswerType.FLOAT, answers=("200",), **near),
        Prompt("t", "?", answer="Ann"),
    ]
    write_rows(map(Sampled, asked), FORMS["verl"], Pictures(tmp_path, tmp_path, some=False))
    rows = list(parquet(tmp_path / "rl.parquet"))
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["B", "100", "Ann"]
    prompts = [to_prompt(row["extra_info"], row["extra_info"]["prompt_id"]) for row in rows]
    assert prompts[1:] == asked[1:]
    right = [("(B)", "option B"), ("1.04 m", "199 cm"), ("Ann", "ann")]
    assert all(AnswerGrader().grade(prompts[n], f"Answer: {said}").correct for n in range(3) for said in right[n])
