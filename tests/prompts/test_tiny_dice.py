"""The embedded task, checked against a reader that knows only the picture and the question."""

from __future__ import annotations

import re
from collections import Counter
from typing import get_args

import numpy as np
import pytest

from mstar.errors import ConfigError
from mstar.grading import AnswerGrader
from mstar.prompts import TinyDice
from mstar.prompts.tiny_dice import KINDS, Split, TinyDiceImage
from mstar.types import Prompt

COLOURS = {
    "red": (220, 40, 40),
    "blue": (40, 70, 220),
    "green": (30, 160, 60),
    "yellow": (230, 200, 30),
    "purple": (150, 50, 170),
    "black": (30, 30, 30),
}


class Right(TinyDice):
    """Without noise in its rationales."""

    seed_noise = 0.0


def read_dice(prompt: Prompt) -> dict[str, int]:
    """Colour and value of every die, from the pixels: a die is what is not light, a pip 2x2 light pixels in it."""
    pixels = np.asarray(prompt.images[0].load()).astype(int)
    dice = {}
    for top, left in ((0, 0), (0, 16), (16, 0), (16, 16)):
        cell = pixels[top : top + 16, left : left + 16]
        light = cell.min(axis=2) > 150
        if light.all():
            continue
        rows, columns = np.nonzero(~light)
        inside = light[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        mean = cell[~light].mean(axis=0)
        colour = min(COLOURS, key=lambda name: np.abs(mean - COLOURS[name]).sum())
        assert colour not in dice
        assert inside.sum() % 4 == 0
        dice[colour] = int(inside.sum()) // 4
    return dice


def solve(question: str, dice: dict[str, int]) -> tuple[str, str, str, str]:
    """The named dice, the line of arithmetic, and the answer."""
    if match := re.fullmatch(r"How much more is (\w+) than (\w+)\?", question):
        a, b = match.groups()
        result = f"{dice[a] - dice[b]}"
        return a, b, f"{dice[a]} - {dice[b]} = {result}", result
    match = re.search(r"(\w+) plus (\w+)", question)
    assert match is not None
    a, b = match.groups()
    total = dice[a] + dice[b]
    if question == f"What is {a} plus {b}?":
        answer = str(total)
    elif question == f"Is {a} plus {b} even?":
        answer = ("yes", "no")[total % 2]
    elif question == f"What is left of {a} plus {b} in threes?":
        answer = str(total - 3 * (total // 3))
    else:
        bound = re.fullmatch(rf"Is {a} plus {b} more than (\d+)\?", question)
        assert bound is not None, question
        answer = "yes" if total > int(bound[1]) else "no"
    return a, b, f"{dice[a]} + {dice[b]} = {total}", answer


@pytest.fixture(scope="module")
def seed_prompts() -> list[Prompt]:
    return list(TinyDice("seed", 2000))


@pytest.mark.parametrize("split", ["seed", "test"])
def test_answers_and_right_chains_follow_from_picture_and_question(split: Split) -> None:
    for prompt in TinyDice(split, 300):
        dice = read_dice(prompt)
        a, b, line, answer = solve(prompt.question, dice)
        assert prompt.answer == answer
        x, sign, y, _, result = line.split()
        turned = line if sign == "-" else f"{y} + {x} = {result}"
        assert set(prompt.reference_responses) == {
            f"{a}{style}{dice[a]}\n{b}{style}{dice[b]}\n{line}\nAnswer: {answer}" for style in (" = ", " is ")
        } | {f"{b}{style}{dice[b]}\n{a}{style}{dice[a]}\n{turned}\nAnswer: {answer}" for style in (" = ", " is ")}


def test_one_prompt_word_by_word() -> None:
    prompt = TinyDice("seed", 10)[1]
    assert read_dice(prompt) == {"purple": 6, "green": 5, "blue": 4, "red": 7}
    assert prompt == Prompt(
        id="seed-0-1",
        question="How much more is red than green?",
        images=(TinyDiceImage("seed", 0, 1),),
        answer="2",
        answer_type=prompt.answer_type,
        rationale="red is 7\ngreen is 5\n7 - 5 = 2\nAnswer: 2",
        reference_responses=(
            "red = 7\ngreen = 5\n7 - 5 = 2\nAnswer: 2",
            "green = 5\nred = 7\n7 - 5 = 2\nAnswer: 2",
            "red is 7\ngreen is 5\n7 - 5 = 2\nAnswer: 2",
            "green is 5\nred is 7\n7 - 5 = 2\nAnswer: 2",
        ),
        category="difference",
    )
    assert prompt.answer_type == "integer"
    assert prompt.images[0].uri == "tiny-dice:seed/0/1"


def test_a_picture_is_32x32_rgb_and_the_same_every_time() -> None:
    image = TinyDice("pool", 5)[3].images[0]
    picture = image.load()
    assert (picture.size, picture.mode) == ((32, 32), "RGB")
    assert picture.tobytes() == image.load().tobytes()
    assert picture.tobytes() != TinyDice("pool", 5, seed=1)[3].images[0].load().tobytes()


def test_prompts_do_not_depend_on_the_size_and_splits_are_disjoint() -> None:
    assert list(TinyDice("pool", 50)) == list(TinyDice("pool", 80))[:50]
    prompts = [prompt for split in get_args(Split) for prompt in TinyDice(split, 100)]
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert len({prompt.images[0].load().tobytes() for prompt in prompts}) == len(prompts)


def test_only_the_seed_split_has_rationales() -> None:
    assert all(prompt.rationale is not None for prompt in TinyDice("seed", 20))
    assert all(prompt.rationale is None for prompt in TinyDice("pool", 20))


def test_there_are_exactly_four_right_chains_and_each_is_graded_right(seed_prompts: list[Prompt]) -> None:
    grader = AnswerGrader()
    for prompt in seed_prompts[:300]:
        assert len(set(prompt.reference_responses)) == 4
        assert all(grader.grade(prompt, response).correct for response in prompt.reference_responses)


def test_seed_rationales_end_in_the_gold_answer_and_48_percent_misread(seed_prompts: list[Prompt]) -> None:
    assert all((p.rationale or "").endswith(f"\nAnswer: {p.answer}") for p in seed_prompts)
    wrong = Counter(p.category for p in seed_prompts if p.rationale not in p.reference_responses)
    assert 0.45 * 2000 < wrong.total() < 0.51 * 2000
    assert set(wrong) == {"even", "more", "remainder"}


def test_misread_rationales_agree_with_themselves_and_are_off_by_at_most_three(seed_prompts: list[Prompt]) -> None:
    misread = [p for p in seed_prompts if p.rationale not in p.reference_responses][:200]
    for prompt in misread:
        lines = (prompt.rationale or "").split("\n")
        readings = {colour: int(value) for colour, _, value in (line.split() for line in lines[:2])}
        truth = read_dice(prompt)
        assert all(1 <= value <= 9 and abs(value - truth[colour]) <= 3 for colour, value in readings.items())
        assert any(value != truth[colour] for colour, value in readings.items())
        x, y = readings.values()
        assert lines[2] == f"{x} + {y} = {x + y}"
        assert solve(prompt.question, truth | readings)[3] == prompt.answer


def test_without_noise_every_seed_rationale_is_right() -> None:
    assert all(p.rationale in p.reference_responses for p in Right("seed", 200))


def test_kinds_answers_and_chains_are_balanced(seed_prompts: list[Prompt]) -> None:
    kinds = Counter(p.category for p in seed_prompts)
    assert set(kinds) == set(KINDS)
    assert all(330 < count < 470 for count in kinds.values())  # 400 +- 4 standard errors
    answers = Counter((p.category, p.answer) for p in seed_prompts)
    assert all(140 < answers[kind, answer] < 260 for kind in ("even", "more") for answer in ("yes", "no"))
    clean = Counter(p.reference_responses.index(p.rationale) for p in Right("seed", 400) if p.rationale)
    assert all(65 < clean[i] < 135 for i in range(4))  # 100 +- 4 standard errors


@pytest.mark.parametrize("seed", [0, 3, -1])
def test_index_of_undoes_the_id(seed: int) -> None:
    source = TinyDice("pool", 12, seed=seed)
    assert [source.index_of(prompt.id) for prompt in source] == list(range(12))


@pytest.mark.parametrize(
    "prompt_id", ["pool-0-12", "pool-1-3", "test-0-3", "pool-0--1", "pool-0-\u00b2", "pool-0-03", "pool-0-", "x", ""]
)
def test_other_ids_have_no_index(prompt_id: str) -> None:
    assert TinyDice("pool", 12).index_of(prompt_id) is None


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        TinyDice("pool", 5)[index]


def test_a_setting_that_cannot_work_is_named() -> None:
    with pytest.raises(ConfigError, match="size is 0"):
        TinyDice("pool", 0)
