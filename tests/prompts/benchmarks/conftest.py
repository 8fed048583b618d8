"""Miniature copies of the benchmarks' files, with their true columns and the odd rows that they are known to have."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mstar.grading import AnswerGrader
from mstar.prompts.benchmarks import BenchmarkSource

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Write = Callable[..., Path]


def colour(number: int) -> tuple[int, int, int]:
    """The colour that picture ``number`` is filled with."""
    return (10 * number % 256, 255 - 7 * number % 256, 31 * number % 256)


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40 + number, 30), colour(number)).save(buffer, "PNG")
    return buffer.getvalue()


def base64_png(number: int) -> str:
    return base64.b64encode(png(number)).decode()


def cell(number: int) -> dict[str, Any]:
    """A picture as ``datasets`` writes it."""
    return {"bytes": png(number), "path": None}


def shows(reference: Any, number: int) -> bool:
    """Whether a reference is to picture ``number``."""
    image = reference.load()
    return bool(image.size == (40 + number, 30) and image.getpixel((5, 5)) == colour(number))


def write_tsv(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    return path


MATHVISTA = [
    {"pid": "1", "question": "By what distance $d$ is the spring compressed?", "choices": None, "unit": None,
     "precision": 1, "answer": "1.2", "question_type": "free_form", "answer_type": "float",
     "task": "textbook question answering", "skills": ["scientific reasoning"]},
    {"pid": "2", "question": "what is the total volume of the measuring cup?", "choices": None, "unit": "g",
     "precision": None, "answer": "1000", "question_type": "free_form", "answer_type": "integer",
     "task": "figure question answering", "skills": ["numeric commonsense", "arithmetic reasoning"]},
    {"pid": "3", "question": "若∠A=110°,则∠BOC=( )", "choices": ["135°", "140°", "145°", "150°"], "unit": None,
     "precision": None, "answer": "145°", "question_type": "multi_choice", "answer_type": "text",
     "task": "geometry problem solving", "skills": ["geometry reasoning", "algebraic reasoning"]},
    {"pid": "44", "question": "How much will he spend? (Unit: $)", "choices": None, "unit": None, "precision": None,
     "answer": "18", "question_type": "free_form", "answer_type": "integer", "task": "math word problem",
     "skills": ["arithmetic reasoning"]},
    {"pid": "506", "question": "Between which two years is the peak?", "choices": None, "unit": None,
     "precision": None, "answer": "[2014, 2016]", "question_type": "free_form", "answer_type": "list",
     "task": "figure question answering", "skills": ["statistical reasoning"]},
    {"pid": "827", "question": "Which letter is at the top?", "choices": ["A", "B", "C", "D", "E", "F"],
     "unit": None, "precision": None, "answer": "E", "question_type": "multi_choice", "answer_type": "text",
     "task": "visual question answering", "skills": []},
    {"pid": "587", "question": "Which is it?", "choices": ["2", "4", "4", "8"], "unit": None, "precision": None,
     "answer": "4", "question_type": "multi_choice", "answer_type": "text", "task": "geometry problem solving",
     "skills": ["geometry reasoning"]},
]  # fmt: skip


def mathvista_query(row: dict[str, Any]) -> str:
    lines = ["Hint: Please answer the question and provide the final value, e.g., 1, 2, 3, at the end."]
    if row["choices"]:
        lines = ["Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, at the end."]
    unit = f" (Unit: {row['unit']})" if row["unit"] else ""
    lines.append(f"Question: {row['question']}{unit}")
    if row["choices"]:
        lines.append("Choices:")
        lines += [f"({chr(65 + i)}) {choice}" for i, choice in enumerate(row["choices"])]
    return "\n".join(lines)


def mathvista_metadata(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "split": "testmini", "language": "chinese" if row["pid"] == "3" else "english", "img_width": 40,
        "img_height": 30, "source": "UniGeo", "category": "math-targeted-vqa", "task": row["task"],
        "context": "geometry diagram", "grade": "high school", "skills": row["skills"],
    }  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Where the miniatures are."""

    root: Path

    def mathvista_parquet(self) -> Path:
        folder = self.root / "mathvista"
        if not folder.exists():
            (folder / "data").mkdir(parents=True)
            table = []
            for number, row in enumerate(MATHVISTA):
                fields = {key: value for key, value in row.items() if key not in ("task", "skills")}
                table.append(
                    fields
                    | {
                        "image": f"images/{row['pid']}.jpg", "decoded_image": cell(number),
                        "query": mathvista_query(row), "metadata": mathvista_metadata(row),
                        "precision": None if row["precision"] is None else float(row["precision"]),
                    }
                )  # fmt: skip
            columns: dict[str, list[Any]] = {name: [row[name] for row in table] for name in table[0]}
            arrays = {
                name: pa.array(values, IMAGE) if name == "decoded_image" else pa.array(values)
                for name, values in columns.items()
            }
            # Two rows a group, so that a picture's group and place in it are not its row number.
            pq.write_table(
                pa.table(arrays), folder / "data/testmini-00000-of-00001-725687bf7a18d64b.parquet", row_group_size=2
            )
            hidden = [row | {"answer": ""} for row in table[:1]]
            pq.write_table(pa.Table.from_pylist(hidden), folder / "data/test-00000-of-00002.parquet")
        return folder

    def mathvista_json(self) -> Path:
        folder = self.root / "mathvista-json"
        if not folder.exists():
            (folder / "images").mkdir(parents=True)
            content = {}
            for number, row in enumerate(MATHVISTA):
                (folder / f"images/{row['pid']}.png").write_bytes(png(number))
                fields = {key: value for key, value in row.items() if key not in ("task", "skills")}
                content[row["pid"]] = fields | {
                    "image": f"images/{row['pid']}.png",
                    "query": mathvista_query(row),
                    "metadata": mathvista_metadata(row),
                }
            (folder / "testmini.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return folder / "testmini.json"

    def mathvista_tsv(self) -> Path:
        names = ("index", "question", "choices", "answer", "answer_option", "question_type", "answer_type", "task",
                 "skills", "image")  # fmt: skip
        rows = [
            (row["pid"], mathvista_query(row), repr(row["choices"] or []), row["answer"], "", row["question_type"],
             row["answer_type"], row["task"], repr(row["skills"]), base64_png(number))
            for number, row in enumerate(MATHVISTA)
        ]  # fmt: skip
        return write_tsv(self.root / "MathVista_MINI.tsv", names, rows)

    def m3cot_rows(self) -> list[dict[str, Any]]:
        return [
            {"id": "physical-commonsense-1398", "category": "Usage Purpose", "context": "",
             "question": "What is the likely purpose of the statue?",
             "choices": ["To scare away trespassers", "To honor a local legend"], "image_id": "1498", "answer": "B",
             "rationale": "", "domain": "commonsense", "topic": "physical-commonsense"},
            {"id": "mathematics-888", "category": "Geometry", "context": "", "question": "Which solves the problem?",
             "choices": ["option A in the image is the answer.", "option B in the image is the answer.",
                         "the answer is option D in the image", "the correct choice is option C in the image."],
             "image_id": "974", "answer": "C", "rationale": "", "domain": "mathematics", "topic": "geometry"},
            {"id": "figurative-language-72", "category": "Literary devices", "context": "Read the poem.",
             "question": "Does the sentence use a simile?",
             "choices": ["Option A in the image", "Option B in the image", "None of the provided options"],
             "image_id": "974", "answer": "A", "rationale": "", "domain": "science", "topic": "language-science"},
        ]  # fmt: skip

    def m3cot_parquet(self) -> Path:
        folder = self.root / "m3cot"
        if not folder.exists():
            (folder / "data").mkdir(parents=True)
            for split, number in (("test", 0), ("validation", 5)):
                rows = self.m3cot_rows()
                arrays = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
                arrays["split"] = pa.array([split] * len(rows))
                arrays["image"] = pa.array([cell(number + i) for i in range(len(rows))], IMAGE)
                pq.write_table(pa.table(arrays), folder / f"data/{split}-00000-of-00001.parquet")
        return folder

    def m3cot_jsonl(self) -> Path:
        folder = self.root / "m3cot-jsonl"
        if not folder.exists():
            (folder / "images").mkdir(parents=True)
            for split, number in (("test", 0), ("dev", 5)):
                lines = []
                for i, row in enumerate(self.m3cot_rows()):
                    name = f"images/{row['id']}-{split}.png"
                    (folder / name).write_bytes(png(number + i))
                    lines.append(json.dumps(row | {"split": split, "image": name}) + "\n")
                (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        return folder

    MMSTAR = (
        (0, "Which option describes the relationship?\nOptions: A: The suitcase, red, is on the book., B: Ratio: 3, "
            "C: The suitcase is beneath the bed., D: nan", "A", "coarse perception", "MMBench"),
        (900, "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
              "Question: How many algorithms have accuracies higher than 2?\nChoices:\n(A) 4\n(B) 6\n(C) 8\n(D) 2",
         "B", "logical reasoning", "MathVista"),
        (1200, "As shown, (A) and (B) are points. Which holds?\n(A) x = 1\n(B) x = 2\n(C) both (A) and (B)", "C",
         "math", "MathVista"),
        (1499, "How many chirality centers does the molecule have? <image 1>\nOptions: A: 5, B: Other Answers, C: nan, "
               "D: nan", "A", "science & technology", "MMMU"),
    )  # fmt: skip

    def mmstar_parquet(self) -> Path:
        path = self.root / "mmstar.parquet"
        rows = self.MMSTAR
        meta = [{"source": r[4], "split": "val", "image_path": f"images/{r[0]}.jpg"} for r in rows]
        table = pa.table(
            {
                "index": pa.array([r[0] for r in rows], pa.int64()),
                "question": [r[1] for r in rows],
                "image": pa.array([png(i) for i in range(len(rows))], pa.binary()),
                "answer": [r[2] for r in rows],
                "category": [r[3] for r in rows],
                "l2_category": [f"{r[3]} (part)" for r in rows],
                "meta_info": meta,
            }
        )
        pq.write_table(table, path, row_group_size=3)
        return path

    def mmstar_tsv(self) -> Path:
        names = ("index", "question", "answer", "category", "l2_category", "bench", "image")
        rows = [(r[0], r[1], r[2], r[3], f"{r[3]} (part)", r[4], base64_png(i)) for i, r in enumerate(self.MMSTAR)]
        return write_tsv(self.root / "MMStar.tsv", names, rows)

    def mmbench_tsv(self) -> Path:
        names = ("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "l2-category", "split", "image")
        rows = [
            (241, "Which is brighter?", "", "The first", "The second", "", "", "B", "image_quality",
             "Attribute Reasoning", "dev", base64_png(1)),
            (1000241, "Which is brighter?", "", "The second", "The first", "", "", "A", "image_quality",
             "Attribute Reasoning", "dev", "241"),
            (252, "What will happen?", 'The text says\n"wait".', "It melts", "None", "It grows", "nan", "C",
             "future_prediction", "logic_reasoning", "dev", base64_png(2)),
            (1000252, "What will happen?", 'The text says\n"wait".', "None", "It grows", "It melts", "nan", "B",
             "future_prediction", "logic_reasoning", "dev", "252"),
            (2000252, "What will happen?", 'The text says\n"wait".', "It grows", "It melts", "None", "nan", "A",
             "future_prediction", "logic_reasoning", "dev", "1000252"),
            (260, "What is shown?", "", "a cat", "a dog", "a cow", "a hen", "D", "image_topic", "coarse_perception",
             "dev", "241"),
        ]  # fmt: skip
        return write_tsv(self.root / "MMBench_DEV_EN_V11.tsv", names, rows)

    def ai2d_parquet(self) -> Path:
        folder = self.root / "ai2d"
        if not folder.exists():
            (folder / "data").mkdir(parents=True)
            table = pa.table(
                {
                    "question": ["which of these define dairy item", "What stage does D depict"],
                    "options": [["c", "D", "b", "a"], ["Chrysalis", "Egg", "Caterpillar", "Butterfly"]],
                    "answer": ["0", "1"],
                    "image": pa.array([cell(0), cell(1)], IMAGE),
                }
            )
            for shard in range(2):
                part = table.slice(shard, 1)
                pq.write_table(part, folder / f"data/test-0000{shard}-of-00002.parquet")
        return folder

    def ai2d_tsv(self) -> Path:
        names = ("index", "question", "A", "B", "C", "D", "answer", "category", "image")
        rows = [(0, "which of these define dairy item", "c", "D", "b", "a", "A", "foodChains", base64_png(0))]
        return write_tsv(self.root / "AI2D_TEST.tsv", names, rows)

    def visual_process_bench(self) -> Path:
        folder = self.root / "visualprocessbench"
        if not folder.exists():
            (folder / "images").mkdir(parents=True)
            rows = []
            for number in range(12):
                (folder / f"images/{number}.png").write_bytes(png(number))
                rows.append(
                    {
                        "image": [f"images/{number}.png"],
                        "question": f"<image>\nWhat is {number} plus 2?",
                        "answer": str(number + 2),
                        "response": {
                            "steps": [f"{number} is shown.\n\n- in red", "  ", "I add 2.", f"Answer: {number + 3}"],
                            "process_correctness": [1, 1, 0 if number % 3 else 1, -1 if number % 2 else 1],
                        },
                        "policy_model": "a" if number < 6 else "b",
                        "data_source": ("MathVision", "WeMath")[number % 2],
                    }
                )
            (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Writes miniature copies of the benchmarks' files."""
    return Files(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="session")
def shown() -> Any:
    """Tells whether a reference is to the picture with a number."""
    return shows


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
