"""Training prompts whose picture or question also stands in a benchmark."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mstar.errors import ConfigError, DataError
from mstar.evaluation.leakage import LeakKind, check_leakage, find_leaks, normalise_question
from mstar.prompts import MixedPrompts, PromptSource, RecordPrompts
from mstar.prompts.part import PromptPart
from mstar.types import Prompt

pytestmark = pytest.mark.usefixtures("own_cache")


def picture(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A smooth random picture, as photographs and charts are at the scale of the hash."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Shown:
    uri: str
    image: Image.Image | None

    def load(self) -> Image.Image:
        if self.image is None:
            raise DataError(f"'{self.uri}' is broken.")
        return self.image


class Prompts(PromptSource):
    def __init__(self, rows: Sequence[tuple[str, str, Image.Image | None]]) -> None:
        self.rows = [Prompt(name, question, (Shown(f"{name}.png", image),)) for name, question, image in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Prompt:
        return self.rows[index]

    def index_of(self, prompt_id: str) -> int | None:
        return None


def compressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.resize((97, 73)).save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


def test_mixed_sources_may_have_files_of_one_name(tmp_path: Path) -> None:
    sources = []
    for name, seed in (("one", 1), ("two", 2), ("bench", 2)):
        (tmp_path / name).mkdir()
        picture(seed).save(tmp_path / name / "1.png")
        row = {"id": name, "question": f"{name}?", "answer": "1", "image": "1.png"}
        (tmp_path / name / "d.jsonl").write_text(json.dumps(row) + "\n")
        sources.append(RecordPrompts(str(tmp_path / name / "d.jsonl")))
    one, two, bench = sources
    for order in ([one, two], [two, one]):
        assert [leak.train_id for leak in find_leaks(MixedPrompts(order), [bench]).leaks] == ["two"]


def test_every_kind_is_found() -> None:
    train = Prompts(
        [
            ("t1", "Hint: h\nQuestion: How many  cubes?\nChoices:\n(A) 1\n(B) 2", picture(1)),
            ("t2", "How many cubes?", compressed(picture(2))),
            ("t3", "Something else?", picture(3)),
            ("t4", "Another one?", compressed(picture(4))),
            ("t5", "What is x?", picture(5)),
            ("t6", "Unrelated?", picture(6)),
            ("t7", "Broken?", None),
        ]
    )
    bench = Prompts(
        [
            ("b1", "How many cubes", picture(1)),
            ("b2", "how many cubes?", picture(2)),
            ("b3", "Which colour?", picture(3)),
            ("b4", "Which shape?", picture(4)),
            ("b5", "What is x?", picture(55)),
            ("b6", "New?", picture(66)),
        ]
    )
    report = find_leaks(train, [bench])
    found = {(leak.train_id, leak.benchmark_id): leak.kind for leak in report.leaks}
    assert found == {
        ("t1", "b1"): LeakKind.SAME_IMAGE_AND_QUESTION,
        ("t2", "b2"): LeakKind.SIMILAR_IMAGE_AND_QUESTION,
        ("t3", "b3"): LeakKind.SAME_IMAGE,
        ("t4", "b4"): LeakKind.SIMILAR_IMAGE,
        ("t5", "b5"): LeakKind.QUESTION,
        ("t1", "b2"): LeakKind.QUESTION,
        ("t2", "b1"): LeakKind.QUESTION,
    }
    assert report.unreadable == ("t7.png",)
    # A prompt of the benchmark counts once, by the strongest kind.
    counts = report.counts()["Prompts"]
    assert counts == dict.fromkeys(LeakKind, 1)


def test_the_line_that_a_source_adds_is_no_part_of_the_question(tmp_path: Path) -> None:
    rows = {"a": "How many cubes?", "b": "Which shape?\nChoices:\n(A) ball\n(B) cone"}
    sources = []
    for name, question in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": name, "question": question, "answer": "1"}) + "\n")
        sources.append(RecordPrompts(str(tmp_path / f"{name}.jsonl"), instruction=f"Answer by the rule {name}."))
    bench = Prompts([("x", "How many cubes?", picture(1)), ("y", "Which shape?", picture(2))])
    mixed = PromptPart(MixedPrompts(sources))
    for pair in ((mixed, bench), (bench, mixed)):
        assert len(find_leaks(pair[0], [pair[1]]).leaks) == 2


def test_of_several_pictures_the_same_one_counts_before_a_similar_one() -> None:
    train = Prompts([])
    train.rows = [Prompt("t", "a?", (Shown("1.png", compressed(picture(1))), Shown("2.png", picture(1))))]
    report = find_leaks(train, [Prompts([("b", "b?", picture(1))])])
    assert [leak.kind for leak in report.leaks] == [LeakKind.SAME_IMAGE]


def test_flat_pictures_are_not_similar_to_each_other() -> None:
    white = Image.new("RGB", (80, 80), "white")
    dotted = white.copy()
    dotted.putpixel((40, 40), (0, 0, 0))
    report = find_leaks(Prompts([("t", "a?", white)]), [Prompts([("b", "b?", dotted), ("c", "c?", white.copy())])])
    assert [(leak.benchmark_id, leak.kind) for leak in report.leaks] == [("c", LeakKind.SAME_IMAGE)]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("What is 3 + 4?", "what is 3 + 4", True),
        ("What is 3 + 4?", "What is 3 - 4?", False),
        ("\uff28ow many?", "How many ?", True),
        ("Find x.\nChoices:\n(A) 1\n(B) 2", "Find x.", True),
        ("Find x.", "Find y.", False),
    ],
)
def test_questions_are_compared_by_their_words(first: str, second: str, same: bool) -> None:
    assert (normalise_question(first) == normalise_question(second)) is same


def test_the_command_writes_pairs_and_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "pairs.jsonl"
    rows = [("t", "Q?", picture(1)), ("u", "R?", picture(2))]
    check_leakage(Prompts(rows), [Prompts([("b", "q", picture(1)), ("c", "new", picture(9))])], str(output))
    [pair] = [json.loads(line) for line in output.read_text().splitlines()]
    assert pair["kind"] == "same_image_and_question"
    assert (pair["train_id"], pair["benchmark_id"], pair["distance"]) == ("t", "b", 0)
    said = capsys.readouterr().out
    assert "Prompts: 1 of 2 prompts met (50.0 %)" in said
    assert "1  same_image_and_question" in said


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="max_distance is 64"):
        find_leaks(Prompts([]), [Prompts([])], max_distance=64)
    with pytest.raises(ConfigError, match="no benchmark"):
        find_leaks(Prompts([]), [])


def test_two_sources_of_one_class_are_counted_apart_by_their_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They went by the name of their class, so that more prompts were met than there were."""
    sources = []
    for name, count in (("one", 3), ("other", 2)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(
            "".join(json.dumps({"id": f"{name}{i}", "question": f"{name} {i}?"}) + "\n" for i in range(count))
        )
        sources.append(RecordPrompts(str(path)))
    train = Prompts([("t0", "one 0?", None), ("t1", "other 0?", None), ("t2", "other 1?", None)])
    check_leakage(train, [*sources, Prompts([]), Prompts([])], str(tmp_path / "leaks.jsonl"))
    lines = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}/one.jsonl: 1 of 3 prompts met (33.3 %)" in lines
    assert f"{tmp_path}/other.jsonl: 2 of 2 prompts met (100.0 %)" in lines
    assert {"Prompts #3: 0 of 0 prompts met (0.0 %)", "Prompts #4: 0 of 0 prompts met (0.0 %)"} <= set(lines)
    found = [json.loads(line) for line in (tmp_path / "leaks.jsonl").read_text().splitlines()]
    assert sorted(leak["benchmark"] for leak in found) == [
        f"{tmp_path}/{name}.jsonl" for name in ("one", "other", "other")
    ]
