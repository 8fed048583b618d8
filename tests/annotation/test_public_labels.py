"""Published step labels train an MPRM as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mstar.annotation import PublicStepLabels
from mstar.datamodules import StepLabelDataModule
from mstar.errors import ConfigError, DataError
from mstar.steps import split_steps
from mstar.types import StepLabels

pytestmark = pytest.mark.usefixtures("own_cache")


def row(number: int, image: str, *labels: float) -> dict[str, Any]:
    steps = [{"step": f"step {i}\nof response {number}", "score": label} for i, label in enumerate(labels)]
    return {"image": image, "question": f"<image>\nWhat is on {image}?", "answer": "1", "steps_with_score": steps}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def images(tmp_path: Path) -> str:
    for number in range(4):
        path = tmp_path / "images" / "geo" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number * 60, 0, 0)).save(path)
    return str(tmp_path / "images")


def test_rows_become_prompts_and_labels(tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "annotations"
    write(folder / "a.jsonl", [row(0, "geo/0.png", 1.0, 0.25, 0.0), row(1, "geo/0.png", 0.5, 0.5)])
    write(folder / "b.jsonl", [row(2, "geo/1.png", 0.0), row(3, "geo/gone.png", 1.0), {"question": "Q"}])
    public = PublicStepLabels(str(folder), image_root=images, max_bad_share=0.5)
    labels = public.load()
    assert len(public.prompts) == 2
    first, second, third = labels
    assert first == StepLabels(
        prompt_id=public.prompts[0].id,
        response="step 0\nof response 0\nstep 1\nof response 0\nstep 2\nof response 0",
        steps=("step 0\n", "of response 0\n", "step 1\n", "of response 0\n", "step 2\n", "of response 0"),
        num_correct=(0, 1, 0, 1, 0, 0),
        num_total=(0, 1, 0, 4, 0, 1),
        correct=False,
    )
    assert second.prompt_id == first.prompt_id
    assert second.correct
    assert third.prompt_id == public.prompts[1].id
    assert all(label.steps == split_steps(label.response) for label in labels)
    assert public.prompts[1].question == "What is on geo/1.png?"
    assert public.prompts[1].images[0].load().getpixel((0, 0)) == (60, 0, 0)
    said = capsys.readouterr().err
    assert "2 of 5 rows are put aside" in said
    assert "repeat" not in said
    assert list(PublicStepLabels(str(folder), image_root=images, max_bad_share=0.5).load()) == list(labels)


def test_an_unknown_form_is_an_error_that_lists_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"frage": "Q", "schritte": ["a"]}])
    with pytest.raises(DataError, match=r"no known form: call its columns \['frage', 'schritte'\]"):
        PublicStepLabels(path)
    with pytest.raises(DataError, match="is an empty file"):
        PublicStepLabels(write(tmp_path / "b.jsonl", []))


def test_they_stand_beside_labels_of_our_own(tmp_path: Path, images: str) -> None:
    path = write(tmp_path / "a.jsonl", [row(i, f"geo/{i}.png", 1.0, 0.0) for i in range(4)])
    public = PublicStepLabels(path, image_root=images)
    data = StepLabelDataModule(public, validation_share=0.0)
    data.setup("fit")
    assert data.train is not None
    assert list(data.train) == list(public.load())
    with pytest.raises(ConfigError, match=r"data\.prompts is not set"):
        StepLabelDataModule("labels")


@pytest.mark.parametrize(("labels", "correct"), [([1, 1, 0], True), ([1, -1, 0], False), ([0, 1, -1], False)])
def test_a_response_is_as_right_as_its_last_labelled_step(tmp_path: Path, labels: list[int], correct: bool) -> None:
    rows = [{"question": "Q", "steps": ["a", "b", "c"], "process_correctness": labels}]
    [label] = PublicStepLabels(write(tmp_path / "a.jsonl", rows)).load()
    assert label.correct == correct
    assert label.num_total == tuple(abs(one) for one in labels)
