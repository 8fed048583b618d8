"""Benchmarks of which a row is a prompt, from a few rows in the columns of their published files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mstar.errors import DataError
from mstar.evaluation.benchmark import ItemResult, score_benchmark
from mstar.evaluation.benchmark_files import render_scores
from mstar.grading import AnswerGrader
from mstar.prompts.benchmarks import (
    MMMU,
    BenchmarkSource,
    ChartQA,
    DynaMath,
    LogicVista,
    MathVerse,
    MathVision,
    MMMUPro,
    WeMath,
)
from mstar.types import AnswerType, Response, ScoredResponse, Verdict, VerdictStatus
from tests.prompts.benchmarks.conftest import IMAGE, cell, png, shows

Write = Callable[..., Path]


@pytest.fixture
def parquet(tmp_path: Path) -> Write:
    """Writes rows to a Parquet file; a picture is given as ``cell(number)``."""

    def write(name: str, rows: list[dict[str, Any]], pictures: tuple[str, ...]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        arrays = {key: pa.array(values, IMAGE if key in pictures else None) for key, values in columns.items()}
        pq.write_table(pa.table(arrays), path)
        return path

    return write


def right(source: BenchmarkSource, index: int, response: str) -> bool:
    return AnswerGrader().grade(source[index], response).correct


def facets(source: BenchmarkSource, index: int) -> dict[str, str]:
    return dict(source.items[index].facets)


def test_math_vision(parquet: Write, tmp_path: Path, shown: Any) -> None:
    rows = [
        {"id": "4", "question": "How many digits?\n<image1>", "options": [], "image": "images/4.jpg",
         "decoded_image": cell(4), "answer": "6", "solution": None, "level": 1, "subject": "counting"},
        {"id": "55", "question": "Which word is formed?\n<image1>", "options": ["KNAO", "KNGO"],
         "image": "images/55.jpg", "decoded_image": cell(5), "answer": "B", "solution": None, "level": 3,
         "subject": "logic"},
    ]  # fmt: skip
    parquet("mv/data/test-00000-of-00001-3532b8d3f1b4047a.parquet", rows, ("decoded_image",))
    source = MathVision(str(tmp_path / "mv"))
    assert [prompt.question for prompt in source] == [
        "How many digits?",
        "Which word is formed?\nChoices:\n(A) KNAO\n(B) KNGO",
    ]
    assert facets(source, 1) == {"subject": "logic", "level": "3"}
    assert shown(source[1].images[0], 5)
    assert right(source, 0, "Answer: 6")
    # The letter and the option's value, as by the official rule.
    assert right(source, 1, "Answer: B")
    assert right(source, 1, "Answer: KNGO")
    (tmp_path / "images").mkdir()
    for row in rows:
        (tmp_path / str(row.pop("image"))).write_bytes(png(1))
        row["image"] = f"images/{row['id']}.jpg"
        del row["decoded_image"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    copy = MathVision(str(tmp_path / "data/test.jsonl"), image_root=str(tmp_path))
    assert [prompt.question for prompt in copy] == [prompt.question for prompt in source]


def test_math_verse(parquet: Write) -> None:
    asked = "AB parallel CD, the angle is ()\nChoices:\nA:40°\nB:60°\nC:120°\nD:140°"
    common = {"metadata": {"split": "testmini", "source": "GeoQA", "subject": "Plane Geometry", "subfield": "Angle"},
              "query_wo": "", "query_cot": "", "question_for_eval": asked}  # fmt: skip
    rows = [
        {"sample_index": "1", "problem_index": "1", "problem_version": "Text Dominant", "question": asked,
         "image": cell(1), "answer": "D", "question_type": "multi-choice", **common},
        {"sample_index": "5", "problem_index": "1", "problem_version": "Vision Only", "question": "",
         "image": cell(2), "answer": "D", "question_type": "multi-choice", **common},
        {"sample_index": "6", "problem_index": "2", "problem_version": "Text Lite", "question": "How long is AB?",
         "image": cell(3), "answer": "7.5", "question_type": "free-form", **common},
    ]  # fmt: skip
    source = MathVerse(str(parquet("testmini.parquet", rows, ("image",))))
    assert source[0].question.endswith("(C) 120°\n(D) 140°")
    assert source[1].question == "Answer the question that is written in the picture."
    assert source[0].choices == source[1].choices == ("40°", "60°", "120°", "140°")
    assert facets(source, 1) == {
        "version": "Vision Only",
        "subject": "Plane Geometry",
        "subfield": "Plane Geometry: Angle",
    }
    assert right(source, 1, "Answer: D")
    assert not right(source, 1, "Answer: C")
    assert right(source, 2, "Answer: 7.5")
    # As published, the folder has the questions without pictures, too.
    beside = [{name: value for name, value in row.items() if name != "image"} for row in rows]
    assert len(MathVerse(str(parquet("testmini_text_only.parquet", beside, ()).parent))) == 3


@pytest.mark.parametrize(
    ("asked", "gold", "response", "wrong"),
    [
        ("\nChoice:\nA. True\nB. False", "False", "B", "A"),
        ("\nChoices:\nA.rises\nB.falls\nC.neither", "(C)", "C", "A"),
        ("\nChoose 2 answers:\nChoices:\nA:x\nB:y\nC:z", "A\nC", "A, C", "A"),
        ("\nChoices:\nA:x\nB:y\nC:z\nE:\nF:u", "C", "C", "B"),
    ],
)
def test_odd_choices_of_math_verse(parquet: Write, asked: str, gold: str, response: str, wrong: str) -> None:
    """Each of these forms is in testmini, where golds are texts, have brackets or are two letters."""
    row = {"sample_index": "1", "problem_version": "Text Dominant", "question": f"Which?{asked}", "image": cell(1),
           "answer": gold, "question_type": "multi-choice",
           "metadata": {"subject": "Functions", "subfield": "Property"}}  # fmt: skip
    source = MathVerse(str(parquet("testmini.parquet", [row], ("image",))))
    assert right(source, 0, f"Answer: {response}")
    assert not right(source, 0, f"Answer: {wrong}")


@pytest.mark.parametrize(
    ("gold", "answers"),
    [
        (r"Area $=113.1 \mathrm{~cm}^{2}$", ["113.1", "113.1 cm²", r"$113.1 \mathrm{~cm}^{2}$"]),
        (r"$\mathrm{SA}=3298.67 \mathrm{~cm}^{2}$", ["3298.67"]),
        (r"Surface Area $=603.186$ units $^{2}$", ["603.186"]),
        (r"Slope $=\frac{1}{5}$", ["1/5", r"$\frac{1}{5}$"]),
        ("y=-3", ["y=-3"]),
    ],
)
def test_golds_of_math_verse_that_say_what_they_are(parquet: Write, gold: str, answers: list[str]) -> None:
    row = {
        "sample_index": "1", "problem_version": "Text Lite", "question": "Find it.", "image": cell(1), "answer": gold,
        "question_type": "free-form", "metadata": {"subject": "Plane Geometry", "subfield": "Area"},
    }  # fmt: skip
    source = MathVerse(str(parquet("testmini.parquet", [row], ("image",))))
    assert [answer for answer in answers if not right(source, 0, f"Answer: {answer}")] == []
    assert not right(source, 0, "Answer: 7")


def test_logic_vista(tmp_path: Path) -> None:
    def row(name: str, answer: str, skill: str) -> dict[str, Any]:
        return {"imagename": f"{name}.png", "question": f"{name}?", "answer": answer, "reasoning": "r",
                "skill": [skill], "broad_capability": ["diagram"], "specific_capability": ["chart"],
                "imagesource": "x", "sourcelink": "x", "liscenced": "true"}  # fmt: skip

    content = {"v1_0": row("v1_0", "C", "inductive"), "v1_1": row("v1_1", "A, C", "inductive"),
               "v1_20": row("v1_20", "3", "deductive"),
               "v1_382": row("v1_382", "", "spatial") | {"question": ""}}  # fmt: skip
    (tmp_path / "images").mkdir()
    for name in content:
        (tmp_path / f"images/{name}.png").write_bytes(png(1))
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    source = LogicVista(str(path))
    assert len(LogicVista(str(path), image_root=str(tmp_path / "images"))) == len(source)
    assert [prompt.answer_type for prompt in source] == [
        AnswerType.MULTI_CHOICE, AnswerType.MULTI_SELECT, AnswerType.TEXT,
    ]  # fmt: skip
    assert source.items[0].facets == (
        ("skill", "inductive"), ("broad_capability", "diagram"), ("specific_capability", "chart"),
    )  # fmt: skip
    verdicts = [(0, "Answer: C", True), (0, "Answer: A", False), (1, "Answer: A, C", True), (1, "Answer: A", False),
                (2, "Answer: 3", True)]  # fmt: skip
    assert [right(source, index, text) for index, text, _ in verdicts] == [expected for *_, expected in verdicts]


def test_dyna_math_counts_the_worst_variant(parquet: Write, tmp_path: Path) -> None:
    def rows(shift: float) -> list[dict[str, Any]]:
        kinds = [("1", "float", str(2.5 + shift)), ("2", "multiple choice", "B"), ("3", "text", "even")]
        return [
            {"id": seed, "question": f"{seed}?", "image": f"image{seed}.png", "decoded_image": cell(1),
             "ground_truth": gold, "answer_type": kind, "subject": "Algebra", "knowledge_level": "high school"}
            for seed, kind, gold in kinds
        ]  # fmt: skip

    for variant in (1, 2):
        parquet(f"dm/data/sample{variant}-00000-of-00001.parquet", rows(variant), ("decoded_image",))
    source = DynaMath(str(tmp_path / "dm"))
    assert len(source) == 6
    assert facets(source, 0) == {"subject": "Algebra", "level": "high school"}
    assert right(source, 0, "Answer: 3.5009")
    assert not right(source, 0, "Answer: 3.502")
    assert right(source, 1, "Answer: B")
    assert right(source, 2, "Answer: even")
    correct = {prompt.id: index != 3 for index, prompt in enumerate(source)}
    assert source.figures(correct) == {"worst case over variants": [0.0, 1.0, 1.0]}
    assert source.notes == ("3 of 3 questions have fewer than 10 variants: their worst case is of those.",)
    for variant in range(3, 11):
        parquet(f"dm/data/sample{variant}-00000-of-00001.parquet", rows(variant), ("decoded_image",))
    assert DynaMath(str(tmp_path / "dm")).notes == ()


def test_dyna_math_as_its_authors_generate_it(tmp_path: Path) -> None:
    for trial in (1, 2):
        (tmp_path / f"trial{trial}/image").mkdir(parents=True)
        (tmp_path / f"trial{trial}/image/image1.png").write_bytes(png(trial))
        row = {"question": "What is the period?", "answer": f"{trial}.5", "image": "image/image1.png",
               "answer_type": "float", "subject": "analytic geometry", "level": "high school"}  # fmt: skip
        (tmp_path / f"trial{trial}/dataset.json").write_text(json.dumps({"1": row}))
    source = DynaMath(str(tmp_path))
    assert [(prompt.id, prompt.answer) for prompt in source] == [("dynamath-1-0", "1.5"), ("dynamath-1-1", "2.5")]
    assert shows(source[1].images[0], 2)
    assert facets(source, 0) == {"subject": "analytic geometry", "level": "high school"}
    correct = {"dynamath-1-0": True, "dynamath-1-1": False}
    assert source.figures(correct) == {"worst case over variants": [0.0]}


def test_pictures_beside_a_file_in_a_hidden_folder(tmp_path: Path) -> None:
    (tmp_path / ".copy").mkdir()
    (tmp_path / ".copy/a.png").write_bytes(png(3))
    row = {"question": "?", "answer": "1.5", "image": "a.png", "answer_type": "float", "subject": "a", "level": "b"}
    (tmp_path / ".copy/dataset.json").write_text(json.dumps({"1": row}))
    assert shows(DynaMath(str(tmp_path))[0].images[0], 3)


def wemath(parquet: Write) -> WeMath:
    steps = {"2steps": ("1", "2", "multi"), "3steps": ("1", "2", "3", "multi")}
    rows = [
        {"ID": f"{kind}_{number}", "split": "testmini", "knowledge concept": "Area of Circles", "question": "Area?",
         "option": "A. 200.96;B. 3215.36;C. 6280;D. 32; E. No correct answer", "answer": "B", "image_path": cell(1),
         "key": f"{kind}_{step}", "question number": 1, "knowledge concept description": "d"}
        for kind, number in (("2steps", 1), ("2steps", 2), ("2steps", 3), ("3steps", 1), ("3steps", 2))
        for step in steps[kind]
    ]  # fmt: skip
    return WeMath(str(parquet("testmini-0.parquet", rows, ("image_path",))))


# Problem by problem: mastered; the whole alone wrong; rote by either rule; by the strict one alone; ignorance.
RIGHT = {
    "2steps_1": "1 2 multi", "2steps_2": "1 2", "2steps_3": "multi", "3steps_1": "1 3 multi", "3steps_2": "1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("option", "answer", "expected"),
    [
        ("A. right to get Shape ;C.; B. down to get Shape ;C.; C. up to get Shape ;C.; D. No correct answer", "C",
         ("right to get Shape ;C.", "down to get Shape ;C.", "up to get Shape ;C.", "No correct answer")),
        ("A. an angle AB;E.; B. an angle AB;C.; C. none.; D. No correct answer", "B",
         ("an angle AB;E.", "an angle AB;C.", "none.", "No correct answer")),
        ("A. 4 B. 3 C. 2 ;D. 1; E. No correct answer", "A", ("4", "3", "2", "1", "No correct answer")),
    ],
)  # fmt: skip
def test_odd_options_of_we_math(parquet: Write, option: str, answer: str, expected: tuple[str, ...]) -> None:
    row = {
        "ID": "2steps_102", "knowledge concept": "x", "question": "?", "option": option, "answer": answer,
        "image_path": cell(1), "key": "2steps_1",
    }  # fmt: skip
    source = WeMath(str(parquet("testmini-0.parquet", [row], ("image_path",))))
    assert source[0].choices == expected
    assert source[0].answer == expected[ord(answer) - ord("A")]
    assert right(source, 0, f"Answer: {answer}")


def test_we_math_has_the_official_figures(parquet: Write) -> None:
    source = wemath(parquet)
    assert source[0].choices == ("200.96", "3215.36", "6280", "32", "No correct answer")
    assert right(source, 0, "Answer: B")
    problems = {prompt.id: prompt.id.removeprefix("wemath-").rpartition("-") for prompt in source}
    correct = {name: step in RIGHT[problem].split() for name, (problem, _, step) in problems.items()}
    found = {name: sum(values) / len(values) for name, values in source.figures(correct).items()}
    assert found == pytest.approx({
        "insufficient knowledge": 0.2, "inadequate generalization": 0.2,
        "complete mastery (strict)": 0.2, "score (strict)": 0.3, "rote memorization (strict)": 2 / 3,
        "complete mastery (loose)": 0.4, "score (loose)": 0.5, "rote memorization (loose)": 1 / 3,
    })  # fmt: skip


def test_figures_stand_in_the_table(parquet: Write) -> None:
    source = wemath(parquet)
    item = [
        ItemResult(prompt.id, _scored(prompt.id, correct=True), (_scored(prompt.id, correct=True),), {})
        for prompt in source
    ]
    rows = {row.prompt.id: row for row in source.items}
    result = score_benchmark(source.name, item, rows, figures=source.figures, resamples=10)
    assert {s.dimension: (s.score, s.questions) for s in result.scores}["score (strict)"] == (1.0, 5)
    assert "| score (strict) | 5 | 100.0 |  |  |  |" in render_scores(result)
    assert result.value("greedy") == 1.0


def _scored(prompt_id: str, correct: bool) -> ScoredResponse:
    return ScoredResponse(Response(prompt_id, 0, "B", 1, True, 0.0, 0.0), Verdict(correct, "B", VerdictStatus.GRADED))


def mmmu_row(name: str, kind: str, options: str, answer: str, **more: Any) -> dict[str, Any]:
    images = {f"image_{number}": cell(number) if number < 3 else None for number in range(1, 8)}
    return {"id": name, "question": "Is <image 1> like <image 2>?", "options": options, "explanation": "", **images,
            "img_type": "['Tables']", "answer": answer, "topic_difficulty": "Easy", "question_type": kind,
            "subfield": "s", **more}  # fmt: skip


PICTURES = tuple(f"image_{number}" for number in range(1, 8))


def test_mmmu(parquet: Write, tmp_path: Path, shown: Any) -> None:
    rows = [
        mmmu_row("validation_Art_Theory_1", "multiple-choice", "['<image 1>', 'no']", "B"),
        mmmu_row("validation_Art_Theory_2", "open", "[]", "['24/7', '3.429']"),
    ]
    parquet("mmmu/Art_Theory/validation-00000-of-00001.parquet", rows, PICTURES)
    parquet("mmmu/Art_Theory/test-00000-of-00001.parquet", [rows[1] | {"answer": "?"}], PICTURES)
    other = mmmu_row("validation_Math_1", "multiple-choice", "['<image 1>', 'no']", "A")
    parquet("mmmu/Math/validation-00000-of-00001.parquet", [other], PICTURES)
    source = MMMU(str(tmp_path / "mmmu"))
    # Pictures are told apart by their names.
    assert len({image.uri for prompt in source for image in prompt.images}) == 6
    assert source[0].question == "Is (image 1) like (image 2)?\nChoices:\n(A) (image 1)\n(B) no"
    assert [shown(image, number + 1) for number, image in enumerate(source[0].images)] == [True, True]
    assert len({image.uri for image in source[0].images}) == 2
    assert facets(source, 0) == {"discipline": "Art and Design", "subject": "Art_Theory"}
    assert right(source, 0, "Answer: B")
    assert right(source, 1, "Answer: 24/7")
    # By the official rule two decimals count.
    assert right(source, 1, "Answer: 3.43")
    assert not right(source, 1, "Answer: 3.4")
    with pytest.raises(DataError, match="the answers of test are not public"):
        MMMU(str(tmp_path / "mmmu"), split="test")


def test_mmmu_names_pictures_that_no_column_holds(parquet: Write) -> None:
    """As validation_Math_7 does, whose options name up to 30."""
    row = mmmu_row("validation_Math_7", "multiple-choice", "['<image 7>, <image 8>', '<image 13>']", "B")
    source = MMMU(str(parquet("validation-0.parquet", [row], PICTURES)))
    assert source[0].choices == ("(image 7), (image 8)", "(image 13)")


def test_mmmu_pro_has_two_settings_and_their_mean(parquet: Write, tmp_path: Path) -> None:
    options = repr([f"option {number}" for number in range(10)])
    standard = mmmu_row("test_History_1", "multiple-choice", options, "J", subject="History")
    # As validation_Accounting_29 is published.
    nested = mmmu_row("validation_Accounting_29", "multiple-choice", "[['A', 'B', 'Not enough information']]", "B")
    parquet("pro/standard (10 options)/test-00000-of-00002.parquet", [standard, nested | {"subject": "a"}], PICTURES)
    vision = {"id": "test_History_1", "image": cell(3), "options": options, "answer": "J", "subject": "History"}
    parquet("pro/vision/test-00000-of-00004.parquet", [vision], ("image",))
    source = MMMUPro(str(tmp_path / "pro"))
    assert [facets(source, index)["setting"] for index in (0, 2)] == ["standard", "vision"]
    assert source.averaged == "setting"
    assert source[1].choices == ("A", "B", "Not enough information")
    assert source[2].question == "Answer the question that is written in the picture."
    assert right(source, 2, "Answer: J")
    assert MMMUPro(str(tmp_path / "pro"), setting="vision").averaged == ""
    with pytest.raises(DataError, match="does not exist"):
        MMMUPro(str(tmp_path / "pro"), setting="standard_4")


@pytest.mark.parametrize("form", ["query", "question"])
def test_chart_qa(parquet: Write, form: str) -> None:
    def row(gold: str, human: bool) -> Mapping[str, Any]:
        if form == "query":
            return {"image": cell(1), "query": "How much?", "label": [gold], "human_or_machine": 0 if human else 1}
        return {"image": cell(1), "question": "How much?", "answer": gold,
                "type": "human_test" if human else "augmented_test"}  # fmt: skip

    rows = [row("100", True), row("Yes", True), row("14.2%", False)]
    source = ChartQA(str(parquet("test-0.parquet", rows, ("image",))))
    assert [facets(source, index)["written by"] for index in range(3)] == ["human", "human", "augmented"]
    assert right(source, 0, "Answer: 104.9")
    assert not right(source, 0, "Answer: 105.1")
    assert right(source, 1, "Answer: yes")
    assert not right(source, 1, "Answer: no")
    assert right(source, 2, "Answer: 14")


@pytest.mark.parametrize("given", ["ChartQA Dataset", "ChartQA Dataset/test"])
def test_chart_qa_as_its_authors_publish_it(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "ChartQA Dataset/test"
    (folder / "png").mkdir(parents=True)
    (folder / "png/166.png").write_bytes(png(1))
    for writer, golds in (("human", ["62", "Yes"]), ("augmented", ["0.57"])):
        rows = [{"imgname": "166.png", "query": "How much?", "label": gold} for gold in golds]
        (folder / f"test_{writer}.json").write_text(json.dumps(rows))
    source = ChartQA(str(tmp_path / given))
    assert [(prompt.answer, prompt.category) for prompt in source] == [
        ("0.57", "augmented"), ("62", "human"), ("Yes", "human"),
    ]  # fmt: skip
    assert source[0].images[0].load().width > 0
