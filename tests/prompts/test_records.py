"""Prompts from any file by a map of its columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar.errors import ConfigError, DataError
from mstar.grading import AnswerGrader
from mstar.prompts import FieldMap, RecordPrompts
from mstar.types import AnswerIs, AnswerType, Prompt, Tolerance
from tests.prompts.record_files import quarantined, sizes, write_lines

Picture = Callable[..., bytes]


TEXT = FieldMap(question="question", answer="answer")


def test_every_field_of_a_prompt(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "1.png").write_bytes(picture(1, "PNG", 8))
    (tmp_path / "img" / "2.jpg").write_bytes(picture(2, "JPEG", 12))
    rows: list[dict[str, Any]] = [
        {
            "nr": 7, "q": "<image><image>\nWhich is larger?", "pics": ["1.png", "./2.jpg"], "opts": ["left", "right"],
            "gold": "B", "kind": "text", "why": "Left is 8.\nRight is 12.\nAnswer: B", "topic": "size",
        },
        {"nr": 8, "q": "How much?", "pics": [], "opts": None, "gold": 2.5, "kind": "float", "dec": 1, "in": "cm"},
    ]  # fmt: skip
    path = write_lines(tmp_path / "data.jsonl", rows)
    fields = FieldMap(
        question="q", images=("pics",), answer="gold", id="nr", choices="opts", answer_type="kind", rationale="why",
        category="topic", precision="dec", unit="in",
    )  # fmt: skip
    source = RecordPrompts(path, fields, image_root=str(tmp_path / "img"), instruction="End with Answer:")
    first, second = source
    assert first.id == "7"
    assert first.question == "Which is larger?\nChoices:\n(A) left\n(B) right\nEnd with Answer:"
    assert [image.uri for image in first.images] == ["1.png", "2.jpg"]
    assert sizes(first) == [(8, 8), (12, 12)]
    assert (first.answer, first.answer_type, first.choices) == ("B", AnswerType.MULTI_CHOICE, ("left", "right"))
    assert first.rationale == "Left is 8.\nRight is 12.\nAnswer: B"
    assert first.category == "size"
    assert second == Prompt(
        id="8", question="How much?\nEnd with Answer:", answer="2.5", answer_type=AnswerType.FLOAT, precision=1,
        unit="cm",
    )  # fmt: skip
    assert source.index_of("8") == 1
    assert source.index_of("9") is None
    with pytest.raises(IndexError):
        source[2]


def test_what_else_is_right_is_part_of_a_prompt(tmp_path: Path) -> None:
    """Further right answers, what an answer is, and how far a number may be off come from columns, too."""
    rows = [
        {"question": "Where?", "answer": "USA", "answers": ["USA", "America"], "choices": None},
        {"question": "Which?", "answer": 1, "answer_is": "index0", "choices": ["red", "blue"]},
        {"question": "How long?", "answer": "200", "answer_type": "float", "tolerance": {"relative": 0.05}},
        {"question": "Who?", "answers": ["Ann", "Ann Lee"]},
    ]
    source = RecordPrompts(write_lines(tmp_path / "data.jsonl", rows))
    where, which, length, who = source
    assert (where.answer, where.answers) == ("USA", ("America",))
    assert (which.answer, which.answer_is, which.answer_type) == ("1", AnswerIs.INDEX0, AnswerType.MULTI_CHOICE)
    assert length.tolerance == Tolerance(relative=0.05)
    assert (who.answer, who.answers) == ("Ann", ("Ann Lee",))
    grade = AnswerGrader().grade
    right = {where: "America", which: "(B)", length: "191", who: "Ann Lee"}
    assert all(grade(prompt, f"Answer: {response}").correct for prompt, response in right.items())
    assert not any(grade(prompt, f"Answer: {text}").correct for prompt, text in ((where, "Peru"), (which, "A")))


@pytest.mark.parametrize(
    "wrong", [{"answer_is": "index2"}, {"tolerance": 0.05}, {"tolerance": {"percent": 5}}, {"answers": [["a"]]}]
)
def test_what_else_is_right_must_be_readable(tmp_path: Path, wrong: dict[str, Any]) -> None:
    rows = [{"question": f"How many {index}?", "answer": "3"} for index in range(30)]
    path = write_lines(tmp_path / "data.jsonl", [*rows, {"question": "Last?", "answer": "3"} | wrong])
    [role] = wrong
    fields = FieldMap(question="question", answer="answer", **{role: role})
    source = RecordPrompts(path, fields, quarantine=str(tmp_path / "bad.jsonl"))
    assert len(source) == 30
    assert quarantined(tmp_path / "bad.jsonl") == [(30, "wrong_type")]
    # A column that the user didn't name never kills a row.
    guessed = RecordPrompts(path)
    assert (len(guessed), guessed[30].answer) == (31, "3")
    [(name, (count, row, detail))] = guessed.facts().ignored.items()
    assert (name, count, row) == (role, 1, 30)
    assert detail


def test_columns_that_are_missing_are_an_error_that_lists_those_found(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", [{"prompt_text": "Q", "img": "a.png"}])
    with pytest.raises(DataError, match=r"lacks the columns \['question', 'answer'\].*has \['prompt_text', 'img'\]"):
        RecordPrompts(path, TEXT)
    with pytest.raises(DataError, match=r"no question by a usual name: name its columns \['prompt_text', 'img'\]"):
        RecordPrompts(path)
    (tmp_path / "comma.jsonl").write_text('{"question": "Q", "answer": "A"},\n')
    with pytest.raises(DataError, match=r"comma.jsonl' has no row that can be read; row 0: no JSON: Extra data"):
        RecordPrompts(str(tmp_path / "comma.jsonl"))
    with pytest.raises(ConfigError, match="question or conversations, not both"):
        FieldMap("question", "conversations")


def test_several_columns_of_pictures(tmp_path: Path, picture: Picture) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(picture(number, "PNG", 8 * number))
    rows = [{"question": "both", "a": "1.png", "b": "2.png"}, {"question": "one", "a": None, "b": "2.png"}]
    both, one = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows), FieldMap(question="question", images=("a", "b")))
    assert (sizes(both), sizes(one)) == ([(8, 8), (16, 16)], [(16, 16)])


def test_bad_rows_are_put_aside_with_the_reason(
    tmp_path: Path, picture: Picture, capsys: pytest.CaptureFixture[str]
) -> None:
    good = picture(1, "PNG", 40)
    (tmp_path / "img").mkdir()
    files = {"good.png": good, "half.png": good[: len(good) // 2], "empty.png": b""}
    for name, content in files.items():
        (tmp_path / "img" / name).write_bytes(content)
    (tmp_path / "secret.png").write_bytes(good)
    base = {"question": "Q?", "image": "good.png", "answer": "1"}
    rows: list[Any] = [
        base | {"id": "ok"},
        base | {"id": "gone", "image": "gone.png"},
        base | {"id": "half", "image": "half.png"},
        base | {"id": "empty", "image": "empty.png"},
        base | {"id": "out", "image": "../secret.png"},
        base | {"id": "none", "image": None},
        base | {"id": "type", "question": ["Q"]},
        base | {"id": "no question", "question": " <image>\n "},
        base | {"id": "no answer", "answer": ""},
        base | {"id": "ok"},
        base | {"id": "surrogate", "answer": "\ud83d"},
        base | {"id": "number", "image": 7},
        base | {"id": "twice", "image": ["good.png", "half.png"]},
        base | {"id": "fine", "answer": 0},
    ]
    path = write_lines(tmp_path / "data.jsonl", rows)
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    put_aside = tmp_path / "aside" / "bad.jsonl"

    def load(share: float) -> RecordPrompts:
        return RecordPrompts(
            path,
            image_root=str(tmp_path / "img"),
            max_bad_share=share,
            quarantine=str(put_aside),
            check_images="exists",
        )

    source = load(0.9)
    # A row without a picture is a question without one, and a repeated row counts once.
    assert [prompt.id for prompt in source] == ["ok", "none", "fine"]
    assert source[2].answer == "0"
    assert quarantined(put_aside) == [
        (1, "missing_image"), (2, "broken_image"), (3, "empty_image"), (4, "image_outside_root"), (6, "wrong_type"),
        (7, "empty_question"), (8, "no_answer"), (10, "bad_text"),
        (11, "wrong_type"), (12, "broken_image"), (14, "malformed"),
    ]  # fmt: skip
    line = json.loads(put_aside.read_text().splitlines()[0])
    assert line["content"]["id"] == "gone"
    assert "gone.png" in line["detail"]
    said = capsys.readouterr().err
    assert "11 of 15 rows are put aside (" in said
    assert "3 broken_image" not in said
    assert "2 broken_image" in said
    assert str(put_aside) in said
    with pytest.raises(DataError, match=r"11 of 15 rows are bad \(73\.3%.*more than max_bad_share 0\.5.*raise max_bad"):
        load(0.5)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its 1 rows can be used"):
        RecordPrompts(write_lines(tmp_path / "d.jsonl", [{"question": "", "answer": "1"}]), max_bad_share=1.0)
    with pytest.raises(ConfigError, match="max_bad_share is 2"):
        RecordPrompts(str(tmp_path / "d.jsonl"), max_bad_share=2)
    with pytest.raises(ConfigError, match="size is 0"):
        RecordPrompts(str(tmp_path / "d.jsonl"), size=0)


@pytest.mark.parametrize(
    ("answers", "found"), [((0, 1, 2), "index0"), ((1, 2, 3), "index1"), ((1, 2, 2), None), ((1, "blue", 2), None)]
)
def test_answers_that_number_the_options(tmp_path: Path, answers: tuple[Any, ...], found: str | None) -> None:
    rows = [{"question": f"Q{i}", "choices": ["red", "blue", "green"], "answer": a} for i, a in enumerate(answers)]
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows))
    assert [prompt.answer_is for prompt in source] == [found] * 3
    if found:
        assert source.facts().columns[-1].why == f"the answers number the options, from {found[-1]}"
        assert AnswerGrader().grade(source[1], "Answer: blue").correct


def test_answers_that_number_the_options_of_named_columns(tmp_path: Path) -> None:
    rows = [{"q": f"Q{i}", "o": ["red", "blue", "green"], "a": i} for i in range(3)]
    path, fields = write_lines(tmp_path / "d.jsonl", rows), FieldMap(question="q", choices="o", answer="a")
    assert [prompt.answer_is for prompt in RecordPrompts(path, fields)] == ["index0"] * 3
    assert [prompt.answer_is for prompt in RecordPrompts(path, replace(fields, answer_is=""))] == [None] * 3


def test_each_split_has_a_quarantine_file_of_its_own(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_lines(tmp_path / f"{name}.jsonl", [{"question": f"{name}?", "answer": "1"}, {"question": name}])
    for split in ("train", "test"):
        RecordPrompts(str(tmp_path), split=split, quarantine=str(tmp_path / "bad" / "q.jsonl"), max_bad_share=1.0)
    rows = {path.name: json.loads(path.read_text())["content"] for path in (tmp_path / "bad").iterdir()}
    assert {name: row["question"] for name, row in rows.items()} == {"q.jsonl": "train", "q-test.jsonl": "test"}


def test_absolute_paths_below_an_image_folder_that_is_a_link(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "disk" / "deep" / "a.png").write_bytes(picture(1, "PNG", 8))
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "deep")
    rows = [
        {"question": f"{folder}?", "answer": "1", "image": str(tmp_path / folder / "a.png")}
        for folder in ("disk/deep", "data", "elsewhere")
    ]
    source = RecordPrompts(
        write_lines(tmp_path / "d.jsonl", rows), image_root=str(tmp_path / "data"), max_bad_share=1.0
    )
    assert [(prompt.question, prompt.images[0].uri) for prompt in source] == [
        ("disk/deep?", "a.png"),
        ("data?", "a.png"),
    ]


def test_a_column_that_seems_to_name_pictures_is_pointed_out(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "1", "figure": "a.PNG", "note": "b"}
    # HallusionBench's first rows have no picture.
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", [row | {"question": "1 + 0?", "figure": None}, row]))
    assert source.facts().unread == ("figure (names of pictures?)", "note")
    listed = RecordPrompts(write_lines(tmp_path / "e.jsonl", [row | {"figure": ["a.jpg", "b.jpg"]}]))
    assert listed.facts().unread == ("figure (names of pictures?)", "note")


def test_a_column_that_holds_pictures_is_pointed_out(tmp_path: Path, picture: Picture) -> None:
    """ICON-QA has query_image, choice_image_0 and choice_image_1, as bytes."""
    shown = {"bytes": picture(), "path": "a.png"}
    row = {"question": "Which?", "answer": "1", "query_image": shown, "choice_image_0": [picture()], "note": "b"}
    for name, columns in (("a", row), ("b", row | {"image": shown, "file": "a.png"})):
        pq.write_table(pa.Table.from_pylist([columns]), tmp_path / f"{name}.parquet")
        unread = RecordPrompts(str(tmp_path / f"{name}.parquet")).facts().unread
        assert unread[:3] == ("query_image (pictures?)", "choice_image_0 (pictures?)", "note")
    assert unread[3:] == ("file",)


def test_a_picture_that_only_the_text_names_makes_a_bad_row(tmp_path: Path) -> None:
    """OlympiadBench's own files name pictures in the text alone, as <img_3362>."""
    rows = [{"question": "As follows:\n<img_3362>\nFind x.", "answer": "1"}, {"question": "2 - 1?", "answer": "1"}]
    path = str(tmp_path / "bad.jsonl")
    RecordPrompts(write_lines(tmp_path / "a.jsonl", rows), max_bad_share=0.5, quarantine=path)
    assert quarantined(Path(path)) == [(0, "picture_count")]


def test_a_column_for_each_picture(tmp_path: Path, picture: Picture) -> None:
    """MMMU, EMMA, OlympiadBench and MP-DocVQA have image_1, image_2 and on, and name them in the text."""
    for number in (1, 2, 10):
        (tmp_path / f"{number}.png").write_bytes(picture(number, "PNG", 8 * number))
    rows = [
        {"question": "Is <image_2> like it?\n<image_1>", "image_2": "2.png", "image_1": "1.png", "image_3": None},
        {"question": "Is it large?\n<image_1>", "image_1": "1.png", "image_2": None, "image_3": None},
    ]
    source = RecordPrompts(write_lines(tmp_path / "data.jsonl", rows))
    assert [sizes(prompt) for prompt in source] == [[(16, 16), (8, 8)], [(8, 8)]]
    many = {"question": "On which page?", "image_10": "10.png", "image_2": "2.png", "image_1": "1.png"}
    [prompt] = RecordPrompts(write_lines(tmp_path / "many.jsonl", [many]))
    assert sizes(prompt) == [(8, 8), (16, 16), (80, 80)]


def test_a_folder_for_each_problem(tmp_path: Path, picture: Picture) -> None:
    """Geometry3K and IconQA have data.json and its picture in a folder that is called by the problem's number."""
    for number in (7, 8):
        (tmp_path / f"train/{number}").mkdir(parents=True)
        (tmp_path / f"train/{number}/img.png").write_bytes(picture(number, "PNG", number))
        row = {"problem_text": "Find x.", "choices": ["12", "13"], "answer": "B", "id": number}
        (tmp_path / f"train/{number}/data.json").write_text(json.dumps(row, indent=1))
    source = RecordPrompts(str(tmp_path / "train/*/data.json"), FieldMap(images="{_folder}/img.png"))
    assert [(prompt.id, sizes(prompt)) for prompt in source] == [("7", [(7, 7)]), ("8", [(8, 8)])]


def test_rows_are_chosen_by_what_they_hold(tmp_path: Path) -> None:
    """NuminaMath-1.5 has rows whose answer is "proof", some of which it calls word problems."""
    kinds = ["math-word-problem", "proof", "math-word-problem", "MCQ"]
    rows = [
        {"problem": f"{n}?", "answer": answer, "question_type": kind, "meta": {"level": n}, "valid": n != 3}
        for n, (answer, kind) in enumerate(zip(["4", "proof", "proof", "B"], kinds, strict=True))
    ]
    path = write_lines(tmp_path / "data.jsonl", rows)

    def taken(**chosen: Any) -> list[str]:
        return [prompt.question for prompt in RecordPrompts(path, **chosen)]

    assert taken(where={"question_type": "math-word-problem"}) == ["0?", "2?"]
    assert taken(unless={"answer": ["proof", "notfound"]}) == ["0?", "3?"]
    both = {"where": {"question_type": ["math-word-problem", "mcq"], "valid": "true"}, "unless": {"answer": "proof"}}
    assert taken(**both) == ["0?"]
    assert taken(where={"meta.level": ["1", "2"]}) == ["1?", "2?"]
    assert len(taken()) == 4
    with pytest.raises(DataError, match=r"lacks the columns \['kind'\] of 'where' or 'unless'; it has \['prob"):
        taken(unless={"kind": "proof"})
    with pytest.raises(DataError, match="has no row left by 'where' and 'unless'"):
        taken(where={"answer": "none"})


def test_numbers_of_pictures_are_filled_with_zeros(tmp_path: Path, picture: Picture) -> None:
    """The pictures of COCO, which VQA sets name by image_id alone."""
    (tmp_path / "000000000042.jpg").write_bytes(picture(1, "JPEG", 8))
    row = {"question_string": "What is it?", "image_id": 42, "answer": "a cat"}
    [prompt] = RecordPrompts(write_lines(tmp_path / "a.jsonl", [row]), FieldMap(images="{image_id:012}.jpg"))
    assert sizes(prompt) == [(8, 8)]


def test_a_chat_written_as_text(tmp_path: Path, picture: Picture) -> None:
    """MM-Eureka's rows have it under message."""
    (tmp_path / "1.png").write_bytes(picture(1, "PNG", 8))
    parts = [{"type": "image", "image": f"file://{tmp_path}/1.png"}, {"type": "text", "text": "How many?"}]
    row = {"id": "0", "message": json.dumps([{"role": "user", "content": parts}]), "answer": "3"}
    [prompt] = RecordPrompts(write_lines(tmp_path / "data.jsonl", [row]))
    assert (prompt.question, prompt.answer, sizes(prompt)) == ("How many?", "3", [(8, 8)])


def test_objects_by_key_with_a_path_template_and_a_context(tmp_path: Path, picture: Picture) -> None:
    for name in ("7", "8"):
        (tmp_path / f"{name}.png").write_bytes(picture(int(name)))
    rows = {k: {"question": "Sum?", "answer": k, "table": f"a | {k}", "choices": None} for k in ("7", "8")}
    (tmp_path / "problems.json").write_text(json.dumps(rows, indent=1))
    path = str(tmp_path / "problems.json")
    assert [prompt.id for prompt in RecordPrompts(path)] == ["7", "8"]
    for template in ("{id}.png", "{_key}.png", "{answer}.png"):
        source = RecordPrompts(path, FieldMap(images=template, context="table"))
        assert [(p.id, p.question, p.images[0].uri) for p in source] == [
            ("7", "a | 7\nSum?", "7.png"), ("8", "a | 8\nSum?", "8.png"),
        ]  # fmt: skip
        assert "answer" in [choice.role for choice in source.facts().columns]
    with pytest.raises(DataError, match=r"lacks the columns \['nr'\]"):
        RecordPrompts(path, FieldMap(images="{nr}.png"))


def test_rows_with_and_without_pictures_mix_and_late_keys_count(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    rows: list[dict[str, Any]] = [{"question": f"Q{i}", "answer": str(i)} for i in range(1500)]
    rows += [{"question": "N", "answer": "1", "image": image} for image in (None, "", [], "a.png", ["a.png", None])]
    source = RecordPrompts(write_lines(tmp_path / "d.jsonl", rows))
    assert source.facts().pictures == {0: 1501, 1: 1}
    assert source.facts().bad == {}


@pytest.mark.parametrize(
    ("question", "count", "shown", "order"),
    [
        ("<image>\nQ", 1, "Q", "a"),
        ("<image><image>\n<image> Q", 3, "Q", "abc"),
        ("Q", 2, "Q", "ab"),
        ("Left <image> right <IMAGE> which?", 2, "Left <image> right <image> which?", "ab"),
        ("Is <image2> above <image1>?", 2, "Is <image> above <image>?", "ba"),
        ("<image 1> and again <image 1>", 1, "<image> and again <image>", "aa"),
        ("See <|image_1|>.", 1, "See <image>.", "a"),
        ("Q <|vision_start|><|image_pad|><|vision_end|>", 1, "Q <image>", "a"),
        ("<image><image>Q", 1, None, ""),
        ("<image>Q", 2, None, ""),
        ("<image>Q", 0, None, ""),
        ("<image1> and <image3>", 2, None, ""),
    ],
)
def test_pictures_stand_where_their_placeholders_stand(
    tmp_path: Path, picture: Picture, question: str, count: int, shown: str | None, order: str
) -> None:
    names = [f"{name}.png" for name in "abc"[:count]]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(picture(number))
    path = write_lines(tmp_path / "d.jsonl", [{"question": "plain"}, {"question": question, "images": names}])
    source = RecordPrompts(path, max_bad_share=0.5)
    if shown is None:
        assert source.facts().bad == {"picture_count": 1}
        [words] = [p for p in RecordPrompts(path, placeholders="words") if p.question != "plain"]
        assert (len(words.images), "<" in words.question) == (count, False)
    else:
        assert source[1].question == shown
        assert "".join(image.uri[0] for image in source[1].images) == order


def test_a_linked_folder_is_allowed_by_image_root(tmp_path: Path, picture: Picture) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.png").write_bytes(picture(1, "PNG", 8))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(tmp_path / "far")
    rows = [{"question": "Q", "image": image} for image in ("images/a.png", str(tmp_path / "far" / "a.png"))]
    path = write_lines(tmp_path / "data" / "d.jsonl", rows)
    with pytest.raises(DataError, match=r"out of the image folder, to '.*far/a\.png' \(set image_root to .*a list"):
        RecordPrompts(path)
    source = RecordPrompts(path, image_root=[str(tmp_path / "data"), str(tmp_path / "far")])
    assert [sizes(prompt) for prompt in source] == [[(8, 8)]] * 2


def test_one_and_nought_may_be_yes_and_no(tmp_path: Path) -> None:
    """FigureQA, HallusionBench."""
    rows = [{"question": "Is Blue the minimum?", "answer": 1}, {"question": "Is Red the minimum?", "answer": 0}]
    yes, no = RecordPrompts(write_lines(tmp_path / "data.jsonl", rows))
    assert (yes.answer, yes.answers, yes.answer_type) == ("yes", ("1",), AnswerType.TEXT)
    grade = AnswerGrader().grade
    said = ("Answer: Yes, it is.", "Answer: 1", "Answer: no", "Answer: 0")
    assert [grade(yes, text).correct for text in said] == [True, True, False, False]
    assert [grade(no, text).correct for text in said] == [False, False, True, True]
    counts = [{"question": "How many?", "answer": 1}, {"question": "How many dice?", "answer": 0}]
    assert [prompt.answer for prompt in RecordPrompts(write_lines(tmp_path / "counts.jsonl", counts))] == ["1", "0"]
