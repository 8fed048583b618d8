"""The task of digits, on a stand-in for the file, checked against a reader of pictures and questions alone."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from mstar.errors import DataError
from mstar.grading import AnswerGrader
from mstar.prompts import Digits
from mstar.prompts.coloured import COLOURS
from mstar.prompts.digits import KINDS, SCANS, DigitsImage
from mstar.prompts.images import open_image
from mstar.types import Prompt
from tests.prompts.digits_file import ROWS, pattern, put_digits


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return put_digits(tmp_path / "cache", monkeypatch)


def read_digits(prompt: Prompt) -> dict[str, int]:
    """Colour and digit of every cell, from the pixels."""
    pixels = np.asarray(prompt.images[0].load()).astype(float)
    found = {}
    for top in (0, 16, 32, 48):
        cell = pixels[top : top + 16, 32:48]
        ink = np.abs(cell - 250).max(axis=2)
        colour = min(COLOURS, key=lambda name: np.abs(cell[ink > 0.85 * ink.max()].mean(axis=0) - COLOURS[name]).sum())
        # Where a pattern lies before it is turned, scaled and shifted.
        templates = []
        for digit in range(10):
            template = pattern(digit).repeat(2, 0).repeat(2, 1)
            templates.append(np.corrcoef(template.ravel(), ink.ravel())[0, 1])
        found[colour] = int(np.argmax(templates))
    return found


def solve(question: str, digits: dict[str, int]) -> str:
    """The answer, by the question's words."""
    named = [digits[word] for word in re.findall(r"\w+", question) if word in COLOURS]
    if question.startswith("What is the total"):
        return str(sum(named))
    if question.startswith("Are"):
        return "yes" if sum(named) > int(re.findall(r"\d+", question)[0]) else "no"
    if question.startswith("Which"):
        return max(digits, key=lambda colour: digits[colour])
    if question.startswith("How many"):
        return str(sum(digit % 2 == 0 for digit in digits.values()))
    if named:
        return str(named[0] - named[1])
    return str(max(digits.values()) - min(digits.values()))


def test_who_reads_the_picture_finds_the_answer() -> None:
    prompts = list(Digits("pool", 100))
    for prompt in prompts:
        digits = read_digits(prompt)
        assert len(set(digits.values())) == 4
        assert solve(prompt.question, digits) == prompt.answer
    assert Counter(prompt.category for prompt in prompts).keys() == set(KINDS)


def test_a_seed_rationale_is_right_and_says_what_is_on_the_picture() -> None:
    grader = AnswerGrader()
    for prompt in Digits("seed", 40):
        assert prompt.rationale is not None
        assert prompt.chain_correct(prompt.rationale)
        said = dict(re.findall(r"The (\w+) digit is (\d)\.", prompt.rationale))
        digits = read_digits(prompt)
        assert len(said) == (4 if prompt.category in ("largest", "range", "even") else 2)
        assert all(digits[colour] == int(digit) for colour, digit in said.items())
        assert grader.grade(prompt, prompt.rationale).correct


def test_a_misread_digit_makes_a_chain_wrong_whose_answer_is_right() -> None:
    prompt = next(p for p in Digits("validation", 100) if p.category == "even")
    right = prompt.reference_responses[0]
    *readings, sentence, answer = right.split("\n")
    assert prompt.chain_correct("\n".join([*readings[::-1], sentence, answer]))
    misread = re.sub(r"is (\d)\.", lambda m: f"is {(int(m[1]) + 2) % 10}.", right, count=1)
    assert AnswerGrader().grade(prompt, misread).correct
    assert not prompt.chain_correct(misread)


def test_no_digit_is_in_two_splits() -> None:
    bounds = sorted(SCANS.values())
    assert [bounds[0][0], bounds[-1][1]] == [0, ROWS]
    assert all(before[1] == after[0] for before, after in pairwise(bounds))
    assert SCANS.keys() == set(DigitsImage.splits)
    drawn = {
        split: {scan for index in range(60) for scan in DigitsImage(split, 0, index).shown.scans} for split in SCANS
    }
    assert all(not first & second for first, second in combinations(drawn.values(), 2))
    assert all(start <= min(drawn[split]) and max(drawn[split]) < stop for split, (start, stop) in SCANS.items())
    # Nearly all of a split's digits are on some picture.
    assert len(drawn["seed"]) > 0.7 * 128


def test_prompts_follow_from_their_index_and_pictures_from_their_uri() -> None:
    pool = Digits("pool", 8)
    assert pool[7] == Digits("pool", 1000)[7]
    assert pool[7].rationale is None
    image = pool[7].images[0]
    assert image.uri == "digits:pool/0/7"
    assert open_image(image.uri).tobytes() == image.load().tobytes()


def test_without_the_file_the_user_is_told_how_to_have_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MSTAR_CACHE", str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"is not there: `python -m mstar\.small --task digits --stages start`"):
        Digits("pool", 1)[0]


def test_a_file_that_is_not_the_pinned_one_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"is not the file of handwritten digits that is pinned \(SHA-256 "):
        Digits("pool", 1)[0]
