"""Each peer's form, read as the peer reads it: by its documented columns, and by ``datasets``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from mstar.__main__ import main
from mstar.annotation.step_label_forms import read_labelled_row
from mstar.grading import AnswerGrader
from mstar.peers import FORMS, Pictures, write_rows
from mstar.peers.rows import Sampled
from mstar.prompts.response_rows import to_prompt
from mstar.rewards.published.base import INSTRUCTION
from mstar.types import AnswerIs, AnswerType, Prompt, Tolerance

from .conftest import WRONG, encode, turns  # type: ignore[import-not-found]


def export(run: Path, to: str, *more: str) -> Path:
    folder = run.parent / to
    assert main(["export-data", "--run", str(run), "--to", to, "--output", str(folder), *more]) == 0
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def parquet(path: Path) -> Dataset:
    return load_dataset("parquet", data_files=str(path), cache_dir=str(path.parent / "cache"), split="train")


ASKED = turns("Be brief.", "Look: <image> what is it?", "A room.", "How many chairs?")


def test_trl(run: Path) -> None:
    folder = export(run, "trl")
    sft = parquet(folder / "sft.parquet")
    file, chat, *_, text = sft
    assert [row["prompt_id"] for row in sft] == ["file", "chat", "chat", "chat", "text"]
    image, part = {"type": "image", "text": None}, lambda text: {"type": "text", "text": text}
    assert file["prompt"] == [{"role": "user", "content": [image, part("Which colour?")]}]
    assert file["completion"] == [{"role": "assistant", "content": [part("It is\nAnswer: red")]}]
    assert [message["content"] for message in chat["prompt"]] == [
        [part("Be brief.")], [part("Look: "), image, part(" what is it?")],
        [part("A room.")], [part("How many chairs?")],
    ]  # fmt: skip
    assert chat["images"][0].convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    assert text["images"] == []
    # A JPEG stays as it is.
    from datasets import Image

    [raw] = sft.cast_column("images", [Image(decode=False)])[0]["images"]
    assert raw["bytes"] == encode("red", "JPEG")
    pair = parquet(folder / "preference.parquet")[0]
    assert (pair["chosen"], pair["rejected"][0]["content"]) == (file["completion"], [part(WRONG[0])])
    steps = parquet(folder / "stepwise.parquet")
    assert [(row["prompt"], row["completions"], row["labels"]) for row in steps] == [
        ("Which colour?", ["It is", "Answer: red"], [True, True]),
        ("Be brief.\nLook: <image> what is it?\nA room.\nHow many chairs?", ["two"], [False]),
    ]


def test_ms_swift(run: Path) -> None:
    folder = export(run, "ms-swift")
    file, chat, *_, text = lines(folder / "sft.jsonl")
    red = str(run.parent / "data/red.jpg")
    answer = {"role": "assistant", "content": "It is\nAnswer: red"}
    assert file == {"messages": [*turns("<image>Which colour?"), answer], "images": [red], "prompt_id": "file"}
    # What was said before the question is not trained on.
    assert chat["messages"][:-1] == [message | ({"loss": False} if message["role"] == "assistant" else {})
                                     for message in ASKED]  # fmt: skip
    [blue] = chat["images"]
    assert Path(blue).read_bytes() == encode("blue", "PNG")
    assert Path(blue).parent == folder / "images"
    assert text["images"] == []
    assert lines(folder / "preference.jsonl")[0] == {**file, "rejected_response": WRONG[0]}
    said = lines(folder / "steps.jsonl")[0]["messages"]
    # As VisualPRM's data are, and as mstar.rewards.published.VisualPRM asks what is trained on them.
    assert said[0] == {"role": "system", "content": INSTRUCTION}
    assert [turn["content"] for turn in said[1:]] == [
        "### Question:\n<image>Which colour?\n\n### Solution Process:\nIt is", "+", "Answer: red", "+",
    ]  # fmt: skip


def test_llama_factory(run: Path) -> None:
    folder = export(run, "llama-factory")
    described = json.loads((folder / "dataset_info.json").read_text())
    assert set(described) == {"mstar_sft", "mstar_preference", "mstar_steps"}
    for name, about in described.items():
        rows = lines(folder / about["file_name"])
        assert rows
        # Every column that is described is in every row.
        assert all(set(about["columns"].values()) <= set(row) for row in rows), name
        assert about.get("ranking", False) is (name == "mstar_preference")
    pair = lines(folder / "preference.jsonl")[1]
    assert pair["messages"] == ASKED
    assert (pair["chosen"]["content"], pair["rejected"]["content"]) == ("a 3", WRONG[0])


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
    write_rows(map(Sampled, asked), FORMS["verl"], Pictures(tmp_path, tmp_path), with_pictures=False)
    rows = list(parquet(tmp_path / "rl.parquet"))
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["B", "100", "Ann"]
    prompts = [to_prompt(row["extra_info"], row["extra_info"]["prompt_id"]) for row in rows]
    assert prompts[1:] == asked[1:]
    right = [("(B)", "option B"), ("1.04 m", "199 cm"), ("Ann", "ann")]
    assert all(AnswerGrader().grade(prompts[n], f"Answer: {said}").correct for n in range(3) for said in right[n])


def test_mpo(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = export(run, "mpo")
    file, text = lines(folder / "preference.jsonl")
    assert file == {
        "image": str(run.parent / "data/red.jpg"), "question": "<image>\nWhich colour?",
        "chosen": "It is\nAnswer: red", "rejected": WRONG[0], "id": "file",
    }  # fmt: skip
    assert "image" not in text
    assert "3 rows are left out: the prompt has earlier turns, and a row of MMPR has one" in capsys.readouterr().err
    [about] = json.loads((folder / "meta_preference.json").read_text()).values()
    assert about["annotation"] == str(folder / "preference.jsonl")
    assert about["length"] == 2
    own, chat, *_ = lines(folder / "sft.jsonl")
    assert own["conversations"][0]["value"] == "<image>\nWhich colour?"
    # InternVL's loader of a single path would write a mark into the system's turn.
    assert isinstance(own["image"], str)
    assert (chat["conversations"][0]["from"], len(chat["image"])) == ("system", 1)
    assert isinstance(chat["image"], list)
    # As mstar itself reads VisualPRM400K.
    read = read_labelled_row(lines(folder / "steps.jsonl")[1], "auto")
    assert (read.steps, read.labels) == (("two",), ((0, 1),))
    assert len(read.images) == 1


def test_a_run_of_text_has_no_column_of_pictures(run: Path) -> None:
    """TRL asks a model for its processor wherever there is one."""
    import pyarrow.parquet as pq
    import yaml

    from mstar.prompts import RecordPrompts
    from mstar.storage import RunDirectory, write_responses

    from .conftest import outcomes  # type: ignore[import-not-found]

    own = yaml.safe_load((run / "evolve/config.yaml").read_text())["data"]["init_args"]["train"]["init_args"]
    write_responses(RunDirectory(run / "evolve").responses(3, 0), [outcomes(RecordPrompts(**own)[2], ["2"])])
    folder = export(run, "trl", "--iteration", "3")
    assert "images" not in pq.read_schema(folder / "sft.parquet").names
    assert not (folder / "stepwise.parquet").exists()
