"""MathV360K: its layout, its texts, its sources, and the paper's splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mstar.errors import ConfigError, DataError
from mstar.prompts import MathV360K, mathv360k
from mstar.types import AnswerType

Picture = Callable[..., bytes]

OPEN = "Hint: Please answer the question and provide the final answer at the end.\nQuestion: "
LETTER = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\nQuestion: "
)
SOURCES = ("TabMWP", "VQA-AS", "VQA2.0", "GeoQA+")


def row(number: int, image: str, asked: str, said: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]
    return {"id": f"identity_{number}", "image": image, "conversations": turns}


def write(root: Path, rows: list[dict[str, Any]], picture: Picture) -> str:
    """A folder that is laid out as the original; every picture that a row names is there."""
    for number, image in enumerate(sorted({item["image"] for item in rows})):
        path = root / "data_images" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (root / "train_samples_all_tuning.json").write_text(json.dumps(rows), encoding="utf-8")
    return str(root)


def many(count: int) -> list[dict[str, Any]]:
    return [
        row(i, f"{SOURCES[i % 4]}/images/{i % 10}.png", f"<image>\n{OPEN}What is {i} + 1?", f"The answer is {i + 1}")
        for i in range(count)
    ]


def test_rows_become_prompts(tmp_path: Path, picture: Picture) -> None:
    choices = "\nChoices:\n(A) 64\u00b0\n(B) 58\u00b0"
    rows = [
        row(0, "TabMWP/images/24069.png", f"<image>\n{OPEN}How much is it?", "The answer is $38.51"),
        row(1, "GeoQA+/images/7.png", f"<image>\n{LETTER}Find the angle.{choices}", "The answer is B"),
        row(2, "VQA2.0/images/7.png", "How many dogs?", "4"),
    ]
    del rows[2]["id"]
    rows[2]["image"] = "data_images/" + rows[2]["image"]
    root = write(tmp_path, [*rows[:2], rows[2] | {"image": "VQA2.0/images/7.png"}], picture)
    (tmp_path / "train_samples_all_tuning.json").write_text(json.dumps(rows))
    by_source = {p.category: p for p in MathV360K(root, "all")}
    money, angle, dogs = by_source["TabMWP"], by_source["GeoQA+"], by_source["VQA2.0"]
    assert (money.question, money.answer, money.answer_type) == ("How much is it?", "$38.51", AnswerType.TEXT)
    assert money.images[0].uri == "TabMWP/images/24069.png"
    assert money.images[0].load().size == (16, 16)
    assert angle.question == f"Find the angle.{choices}"
    assert (angle.answer, angle.choices, angle.answer_type) == ("B", ("64\u00b0", "58\u00b0"), AnswerType.MULTI_CHOICE)
    assert (dogs.question, dogs.answer, dogs.answer_type) == ("How many dogs?", "4", AnswerType.INTEGER)
    assert dogs.images[0].uri == "VQA2.0/images/7.png"


def test_the_splits_of_the_paper(tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "data", many(200), picture)
    # A small copy keeps some of the hidden half for every use of it.
    small = {name: len(MathV360K(root, name)) for name in ("labelled", "unlabelled", "test", "validation")}  # type: ignore[arg-type]
    assert small == {"labelled": 100, "unlabelled": 50, "test": 25, "validation": 25}
    monkeypatch.setattr(mathv360k, "_NUM_TEST", 15)
    monkeypatch.setattr(mathv360k, "_NUM_VALIDATION", 5)
    parts = {name: MathV360K(root, name) for name in small}  # type: ignore[arg-type]
    assert {name: len(part) for name, part in parts.items()} == {
        "labelled": 100, "unlabelled": 80, "test": 15, "validation": 5,
    }  # fmt: skip
    ids = [prompt.id for part in parts.values() for prompt in part]
    assert len(set(ids)) == 200
    assert all((prompt.answer is None) == (name == "unlabelled") for name, part in parts.items() for prompt in part)
    assert all(p.answer for p in MathV360K(root, "unlabelled", hide_answers=False))


def test_the_splits_follow_from_questions_and_seed_alone(tmp_path: Path, picture: Picture) -> None:
    rows = many(60)
    for number, item in enumerate(rows):
        item["id"] = f"identity_{number % 7}"
    first = write(tmp_path / "a", many(60), picture)
    second = write(tmp_path / "b", rows[::-1], picture)

    def ids(root: str, seed: int) -> set[str]:
        return {prompt.id for prompt in MathV360K(root, "labelled", seed=seed)}

    assert ids(first, 0) == ids(second, 0)
    assert ids(first, 0) != ids(first, 1)


def test_the_lists_of_ids_are_written(tmp_path: Path, picture: Picture) -> None:
    root, lists = write(tmp_path / "data", many(40), picture), tmp_path / "splits"
    labelled = MathV360K(root, "labelled", splits=str(lists))
    assert set((lists / "labelled.txt").read_text().split()) == {prompt.id for prompt in labelled}
    assert sorted(path.name for path in lists.iterdir()) == [
        "labelled.txt", "test.txt", "unlabelled.txt", "validation.txt",
    ]  # fmt: skip
    # A process that was killed wrote some of them.
    (lists / "validation.txt").unlink()
    assert [prompt.id for prompt in MathV360K(root, "labelled", splits=str(lists))] == [p.id for p in labelled]
    assert len((lists / "validation.txt").read_text().split()) == 5
    with pytest.raises(DataError, match=r"labelled\.txt' lists other prompts than this data and seed give"):
        MathV360K(root, "labelled", splits=str(lists), seed=9)


def test_sources_are_whole_folder_names(tmp_path: Path, picture: Picture) -> None:
    rows = [row(i, f"{name}/images/{i}.png", f"Q{i}?", "The answer is 1") for i, name in enumerate(("VQA", *SOURCES))]
    root = write(tmp_path, rows, picture)
    assert [prompt.category for prompt in MathV360K(root, "all", sources=["VQA"])] == ["VQA"]
    with pytest.raises(
        ConfigError, match=r"no sources \['VQA-A'\]; the data has \['GeoQA\+', 'TabMWP', 'VQA', 'VQA-AS"
    ):
        MathV360K(root, "all", sources=["VQA", "VQA-A"])


def test_size_takes_the_same_prompts_whatever_the_order(tmp_path: Path, picture: Picture) -> None:
    root = write(tmp_path / "a", many(40), picture)
    some = MathV360K(root, "labelled", size=5)
    assert len(some) == 5
    back = MathV360K(write(tmp_path / "b", many(40)[::-1], picture), "labelled", size=5)
    assert {prompt.id for prompt in back} == {prompt.id for prompt in some}
    assert all(some.index_of(prompt.id) == index for index, prompt in enumerate(some))


def test_conflicting_duplicates_are_one_group(
    tmp_path: Path, picture: Picture, capsys: pytest.CaptureFixture[str]
) -> None:
    image = "VQA-AS/images/1.png"
    rows = [
        *many(20),
        row(90, image, f"<image>\n{OPEN}Who?", "The answer is a man"),
        row(91, image, f"{OPEN}Who?", "The answer is a woman"),
        row(92, "VQA-AS/images/2.png", f"{OPEN}Who?", "The answer is a woman"),
        row(93, "VQA-AS/images/2.png", f"{OPEN}Who?", "The answer is A woman"),
    ]
    put_aside = tmp_path / "bad.jsonl"
    source = MathV360K(write(tmp_path / "data", rows, picture), "all", quarantine=str(put_aside), hide_answers=False)
    assert len(source) == 21
    assert [p.answer for p in source if p.question == "Who?"] == ["a woman"]
    [group] = map(json.loads, put_aside.read_text().splitlines())
    assert group["reason"] == "conflicting_answers"
    assert group["content"]["images"] == [image]
    assert group["content"]["answers"] == {"a man": 1, "a woman": 1}
    said = capsys.readouterr().err
    assert said.count("1 questions with contradictory answers are left out") == 1
    MathV360K(str(tmp_path / "data"), "test", quarantine=str(put_aside), hide_answers=False)
    assert capsys.readouterr().err == ""  # a second split of the same data has nothing new to say


def test_a_picture_that_is_missing_does_not_change_the_splits(tmp_path: Path, picture: Picture) -> None:
    root = write(tmp_path / "data", many(40), picture)
    before = {name: {p.id for p in MathV360K(root, name)} for name in ("labelled", "test")}  # type: ignore[arg-type]
    (tmp_path / "data" / "data_images" / "TabMWP" / "images" / "0.png").unlink()
    lost = {p.id for p in MathV360K(root, "all", max_bad_share=1.0)}
    for name, ids in before.items():
        assert {p.id for p in MathV360K(root, name, max_bad_share=1.0)} == ids & lost  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"2 of 40 rows are bad \(5\.0%: 2 missing_image\)"):
        MathV360K(root, max_bad_share=0.01)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conversations": [{"from": "human", "value": "<image>\n" + OPEN}]}, "empty_question"),
        ({"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "The answer is"}]}, "no_answer"),
        ({"conversations": [{"from": "human", "value": "Q?"}]}, "no_answer"),
        ({"conversations": "Q?"}, "wrong_type"),
        ({"conversations": None}, "wrong_type"),
        ({"image": None}, "missing_image"),
        ({"image": "../../etc/passwd"}, "image_outside_root"),
        ({"image": 4}, "wrong_type"),
    ],
)
def test_a_row_that_cannot_be_used(tmp_path: Path, picture: Picture, change: dict[str, Any], reason: str) -> None:
    root = write(tmp_path / "data", many(20), picture)
    path = tmp_path / "data" / "train_samples_all_tuning.json"
    path.write_text(json.dumps([*many(20), row(99, "TabMWP/images/0.png", "Q?", "1") | change]))
    put_aside = tmp_path / "bad.jsonl"
    assert len(MathV360K(root, "all", quarantine=str(put_aside))) == 20
    [line] = map(json.loads, put_aside.read_text().splitlines())
    assert (line["row"], line["reason"]) == (20, reason)


def test_a_folder_that_is_not_the_data_is_named(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(DataError, match=r"train_samples_all_tuning\.json' does not exist"):
        MathV360K(str(tmp_path))
    write(tmp_path, many(4), picture)
    (tmp_path / "data_images").rename(tmp_path / "images")
    with pytest.raises(DataError, match=r"image folder '.*data_images' does not exist"):
        MathV360K(str(tmp_path))
