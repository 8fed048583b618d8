"""The published forms of step labels, one row each."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from mstar.__main__ import main
from mstar.annotation import PublicStepLabels
from mstar.annotation.step_label_forms import find_form, read_label, read_labelled_row
from mstar.datamodules import StepLabelDataModule
from mstar.prompts.quarantine import Reason, RowError

STEPS = ("First, 2 + 3 = 5.", "Then 5 x 2 = 11.", "The answer is 11")
LABELS = ((1, 1), (0, 1), (0, 1))


def turns(*values: Any) -> list[dict[str, Any]]:
    return [{"from": "human" if i % 2 == 0 else "gpt", "value": value} for i, value in enumerate(values)]


SHEPHERD = "How much? Step 1: a ки\nStep 2: b ки\nStep 3: The answer is: 11 ки"
VISUALPRM = [
    {"from": "system", "value": "You are a judge."},
    *turns(
        f"### Question:\n<image>\nHow much?\n\n### Solution Process:\n{STEPS[0]}", "+", STEPS[1], "-", STEPS[2], "-"
    ),
]
ROWS: dict[str, dict[str, Any]] = {
    "visualprm_raw": {
        "image": "geo/1.png",
        "question": "<image>\nHow much?",
        "answer": "10",
        "response": "\n\n".join(STEPS),
        "steps_with_score": [
            {"step": step, "score": c / t, "num_mc_correct": c, "num_mc_total": t}
            for step, (c, t) in zip(STEPS, LABELS, strict=True)
        ],
    },
    "visualprm": {"id": -1, "image": ["geo/1.png"], "conversations": VISUALPRM},
    "mm_prm": {
        "id": 0,
        "image": "geo/1.png",
        "conversations": turns(f"Question: How much?\nProcess: {'<prm>'.join(STEPS)}<prm>", [1.0, 0.0, 0]),
    },
    "stepwise": {"prompt": "How much?", "completions": list(STEPS), "labels": [True, False, False]},
    "steps": {"question": "How much?", "images": ["geo/1.png"], "steps": list(STEPS), "labels": [1, -1, -1]},
}  # fmt: skip


@pytest.mark.parametrize("form", list(ROWS))
def test_a_row_of_every_form(form: str) -> None:
    assert find_form(ROWS[form]) == form
    read = read_labelled_row(ROWS[form])
    assert (read.question, read.steps, read.labels) == ("How much?", STEPS, LABELS)
    assert read.images == (() if form == "stepwise" else ("geo/1.png",))


@pytest.mark.parametrize(
    "row",
    [
        {"query": "How much?", "response": "\n".join(STEPS) + "\n", "label": ["+", "-", "-"]},
        {"problem": "How much?", "steps": [{"text": s, "label": a} for s, (a, _) in zip(STEPS, LABELS, strict=True)]},
        {"question": "How much?", "steps": [{"step": s} for s in STEPS], "step_labels": [1.0, 0.0, 0.0]},
    ],
)
def test_steps_under_other_names(row: dict[str, Any]) -> None:
    read = read_labelled_row(row)
    assert (read.question, read.steps, read.labels) == ("How much?", STEPS, LABELS)


def test_math_shepherd() -> None:
    row = {"input": SHEPHERD, "label": SHEPHERD.replace("ки", "+", 1).replace("ки", "-"), "task": "GSM8K"}
    assert find_form(row) == "math_shepherd"
    read = read_labelled_row(row)
    assert read.question == "How much?"
    assert read.steps == ("Step 1: a", "Step 2: b", "Step 3: The answer is: 11")
    assert (read.labels, read.images) == (LABELS, ())


def test_math_shepherd_without_numbered_steps() -> None:
    read = read_labelled_row({"input": "How much? a ки\nb ки", "label": "How much? a +\nb -"})
    assert (read.question, read.steps, read.labels) == ("How much?", ("a", "b"), ((1, 1), (0, 1)))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (SHEPHERD, SHEPHERD),
        (SHEPHERD, "How much?"),
        ("How much?", "How much?"),
        ("Round ки to ten. Step 1: a ки", "Round + to ten. Step 1: a +"),
    ],
)
def test_math_shepherd_rows_that_do_not_fit_together(text: str, label: str) -> None:
    with pytest.raises(RowError) as caught:
        read_labelled_row({"input": text, "label": label})
    assert caught.value.reason is Reason.BAD_STEPS


def test_continuations_are_counted_where_the_data_has_their_number() -> None:
    raw = ROWS["visualprm_raw"]
    steps = [{"step": f"s{c}", "score": c / 16, "num_mc_correct": c, "num_mc_total": 16} for c in (16, 3, 0)]
    assert read_labelled_row(raw | {"steps_with_score": steps}).labels == ((16, 16), (3, 16), (0, 16))
    assert read_labelled_row(raw | {"steps_with_score": [{"step": "s", "score": 0.1875}]}).labels == ((3, 16),)


def test_what_a_pipeline_did_not_continue_is_not_labelled() -> None:
    steps = [{"step": f"s{c}", "num_mc_correct": c, "num_mc_total": t} for c, t in ((3, 4), (0, 4), (0, 0), (0, 0))]
    read = read_labelled_row(ROWS["visualprm_raw"] | {"steps_with_score": steps})
    assert read.labels == ((3, 4), (0, 4), (0, 0), (0, 0))


@pytest.mark.parametrize(
    ("row", "neutral"),
    [
        ({"steps": ["a", "b"], "process_correctness": [1, 0]}, True),
        ({"steps": [{"text": "a", "rating": 1}, {"text": "b", "rating": 0}]}, True),
        ({"steps": ["a", "b"], "labels": [1, 0]}, False),
        ({"steps": [{"text": "a", "label": 1}, {"text": "b", "label": 0}]}, False),
    ],
)
def test_a_neutral_step_is_not_labelled(row: dict[str, Any], neutral: bool) -> None:
    assert read_labelled_row({"question": "Q"} | row).labels == ((1, 1), (0, 0 if neutral else 1))


def test_0_beside_a_minus_1_is_neutral() -> None:
    row = {"question": "Q", "steps": list("abc"), "labels": [1, 0, -1]}
    assert read_labelled_row(row).labels == ((1, 1), (0, 0), (0, 1))


def test_the_question_before_the_prompt_s_wording_is_preferred() -> None:
    row = ROWS["visualprm_raw"] | {"question": "Answer step by step: How much?", "question_orig": "How much?"}
    assert read_labelled_row(row).question == "How much?"


def test_steps_keep_their_lines_and_empty_ones_go() -> None:
    row = {"question": "Q", "steps": ["a\n\n  b\r\nc\n", " \n", "d"], "labels": [1, 0, 0.5]}
    read = read_labelled_row(row)
    assert (read.steps, read.labels) == (("a\n\n  b\r\nc", "d"), ((1, 1), (1, 2)))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (True, (1, 1)), (False, (0, 1)), ("+", (1, 1)), ("-", (0, 1)), (1, (1, 1)), (0, (0, 1)), (-1, (0, 1)),
        (0.0, (0, 1)), (1 / 3, (1, 3)), (0.8125, (13, 16)), ((2, 4), (2, 4)), ((0, 0), (0, 0)),
    ],
)  # fmt: skip
def test_a_label(label: Any, expected: tuple[int, int]) -> None:
    assert read_label(label) == expected


@pytest.mark.parametrize("label", [None, "", "yes", 1.5, -0.5, 2, float("nan"), (3, 2), [1]])
def test_what_is_no_label(label: Any) -> None:
    with pytest.raises(RowError):
        read_label(label)


@pytest.mark.parametrize(
    ("first", "question", "step"),
    [
        ("### Question:\n<image>\nWhy?\n\n### Solution Process:\nBecause.\nSo.", "Why?", "Because.\nSo."),
        ("<image>\nWhy?\nStep 1: Look.\nSee.", "Why?", "Step 1: Look.\nSee."),
        ("<image>\nWhy?\n(A) x\n(B) y\n\nI look.", "Why?\n(A) x\n(B) y", "I look."),
    ],
)
def test_a_first_turn_holds_question_and_step(first: str, question: str, step: str) -> None:
    read = read_labelled_row({"image": "a.png", "conversations": turns(first, "+", "b", "-")})
    assert (read.question, read.steps) == (question, (step, "b"))


@pytest.mark.parametrize(
    ("question", "shown", "pictures"),
    [
        ("Left <image> or right <image>?", "Left <image> or right <image>?", ("a.png", "b.png")),
        ("What is <image 2> to <image 1>?", "What is <image> to <image>?", ("b.png", "a.png")),
        ("<image>\n<image>\nWhich?", "Which?", ("a.png", "b.png")),
    ],
)
def test_pictures_stand_where_the_question_has_them(question: str, shown: str, pictures: tuple[str, ...]) -> None:
    row = {"question": question, "steps": ["a"], "labels": [1], "image_paths": ["a.png", "b.png"]}
    read = read_labelled_row(row)
    assert (read.question, read.images) == (shown, pictures)


def test_the_question_of_mm_prm_may_stand_behind_its_picture() -> None:
    conversation = turns(f"<image>\nQuestion: How much?\nProcess: {'<prm>'.join(STEPS)}", [1.0, 0.0, 0])
    assert read_labelled_row(ROWS["mm_prm"] | {"conversations": conversation}).question == "How much?"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "Q", "steps": ["a", "b"], "labels": [1]}, Reason.BAD_STEPS),
        ({"question": "Q", "steps": [], "labels": []}, Reason.BAD_STEPS),
        ({"question": "Q", "steps": ["a", "b"], "process_correctness": [0, 0]}, Reason.BAD_STEPS),
        (
            {"question": "Q", "steps_with_score": [{"step": "a", "num_mc_correct": 0, "num_mc_total": 0}]},
            Reason.BAD_STEPS,
        ),
        ({"question": "Q", "steps": ["a", 3], "labels": [1, 1]}, Reason.BAD_STEPS),
        ({"question": "Q", "steps": "a", "labels": [1]}, Reason.BAD_STEPS),
        ({"question": "Q", "steps": ["a"]}, Reason.BAD_STEPS),
        ({"question": " ", "steps": ["a"], "labels": [1]}, Reason.EMPTY_QUESTION),
        ({"question": "Q", "steps": ["a"], "labels": [1], "image": 3}, Reason.WRONG_TYPE),
        ({"conversations": turns("How much?", "+")}, Reason.BAD_STEPS),
        ({"conversations": turns("<image>\nHow much?", "+")}, Reason.BAD_STEPS),
        ({"conversations": turns("How much?", [1])}, Reason.BAD_STEPS),
        ({"conversations": "How much?"}, Reason.BAD_STEPS),
        ({"a": 1}, Reason.WRONG_TYPE),
        ({"question": "<image>Q", "steps": ["a"], "labels": [1]}, Reason.PICTURE_COUNT),
        ({"question": "<image><image>Q", "steps": ["a"], "labels": [1], "image": "a.png"}, Reason.PICTURE_COUNT),
    ],
)
def test_rows_that_cannot_be_used(row: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(RowError) as caught:
        read_labelled_row(row)
    assert caught.value.reason is reason


def write(folder: Path, form: str, size: int) -> str:
    """Rows of a form about questions and pictures of their own."""
    shepherd = {"input": SHEPHERD, "label": SHEPHERD.replace("ки", "+")}
    text = json.dumps(ROWS.get(form, shepherd), ensure_ascii=False)
    rows = []
    for number in range(size):
        named = text.replace("geo/1.png", f"geo/{number}.png")
        rows.append(named.replace("How much?", f"How much is {number}?") + "\n")
        path = folder / "geo" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    (folder / f"{form}.jsonl").write_text("".join(rows), encoding="utf-8")
    return str(folder / f"{form}.jsonl")


@pytest.mark.parametrize("form", [*ROWS, "math_shepherd"])
def test_every_form_makes_batches(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("MSTAR_CACHE", str(tmp_path / "cache"))
    data = StepLabelDataModule(PublicStepLabels(write(tmp_path, form, 8)), batch_size=8, validation_share=0.0)
    module = SimpleNamespace(renderer=tiny.renderer, share_prompts=True, count_terms=lambda batch: (1, 0))
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=module, world_size=1, global_rank=0, default_root_dir=tmp_path, callbacks=[],
        accumulate_grad_batches=1,
    )  # fmt: skip
    data.setup("fit")
    [batch] = data.train_dataloader()
    assert len(batch.group_B.unique()) == len(batch.correct_B) == 8
    assert len(batch.soft_N) == 24
    assert batch.hard_N.tolist() == ([1.0] * 24 if form == "math_shepherd" else [1.0, 0.0, 0.0] * 8)


def test_an_mprm_is_trained_with_only_the_config_s_paths_set(
    tmp_path: Path, warm_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSTAR_CACHE", str(tmp_path / "cache"))
    config = Path(__file__).parents[2] / "configs/mprm/public_labels.yaml"
    flags = [f"--model.model_name={warm_policy}", f"--data.labels.path={write(tmp_path, 'visualprm_raw', 100)}"]
    flags += [f"--trainer.default_root_dir={tmp_path / 'run'}"]
    assert main(["fit", "--config", str(config), *flags]) == 0
    assert (tmp_path / "run" / "mprm").is_dir()


def test_an_mprm_is_not_trained_on_labels_of_one_kind(
    tmp_path: Path, warm_policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MSTAR_CACHE", str(tmp_path / "cache"))
    config = Path(__file__).parents[2] / "configs/mprm/public_labels.yaml"
    flags = [f"--model.model_name={warm_policy}", f"--data.labels.path={write(tmp_path, 'math_shepherd', 100)}"]
    assert main(["fit", "--config", str(config), *flags, f"--trainer.default_root_dir={tmp_path / 'run'}"]) == 1
    assert "are 1, and an MPRM learns nothing from labels of one kind" in capsys.readouterr().err
    assert not (tmp_path / "run" / "mprm").exists()
