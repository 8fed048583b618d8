"""The task of charts, checked against a reader that knows only the picture and the question."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from mstar.grading import AnswerGrader
from mstar.prompts import Charts
from mstar.prompts.charts import KINDS
from mstar.prompts.coloured import COLOURS
from mstar.types import Prompt


def read_bars(prompt: Prompt) -> dict[str, int]:
    """Colour and height of every bar, from the pixels: a bar is what is far from grey or dark; 3 pixels are a unit."""
    pixels = np.asarray(prompt.images[0].load()).astype(int)
    bars = {}
    for left in (2, 18, 34, 50):
        middle = pixels[:62, left + 3 : left + 9].mean(axis=1)
        bar = (middle.max(axis=1) - middle.min(axis=1) > 60) | (middle.max(axis=1) < 120)
        colour = min(COLOURS, key=lambda name: np.abs(middle[bar].mean(axis=0) - COLOURS[name]).sum())
        assert bar[61 - bar.sum() + 1 :].all()  # it stands on the floor, in one piece
        assert bar.sum() % 3 == 0
        bars[colour] = int(bar.sum()) // 3
    return bars


def solve(question: str, bars: dict[str, int]) -> str:
    """The answer, by the question's words."""
    named = [bars[word] for word in re.findall(r"\w+", question) if word in COLOURS]
    numbers = [int(word) for word in re.findall(r"\d+", question)]
    if question.startswith("What is the total"):
        return str(sum(named))
    if question.startswith("Are"):
        return "yes" if sum(named) > numbers[0] else "no"
    if question.startswith("Which"):
        return max(bars, key=lambda colour: bars[colour])
    if question.startswith("How many"):
        return str(sum(height > numbers[0] for height in bars.values()))
    if named:
        return str(named[0] - named[1])
    return str(max(bars.values()) - min(bars.values()))


def test_who_reads_the_picture_finds_the_answer() -> None:
    prompts = list(Charts("pool", 200))
    for prompt in prompts:
        bars = read_bars(prompt)
        assert len(bars) == 4
        assert solve(prompt.question, bars) == prompt.answer
    assert Counter(prompt.category for prompt in prompts).keys() == set(KINDS)


def test_a_seed_rationale_is_right_and_says_what_is_on_the_picture() -> None:
    grader = AnswerGrader()
    for prompt in Charts("seed", 60):
        assert prompt.rationale is not None
        assert prompt.chain_correct(prompt.rationale)
        said = dict(re.findall(r"The (\w+) bar is (\d+)\.", prompt.rationale))
        bars = read_bars(prompt)
        assert len(said) == (4 if prompt.category in ("tallest", "range", "count") else 2)
        assert all(bars[colour] == int(height) for colour, height in said.items())
        assert grader.grade(prompt, prompt.rationale).correct


def test_a_chain_may_read_the_bars_in_any_order_but_not_wrongly() -> None:
    source = Charts("validation", 300)
    prompt = next(p for p in source if p.category == "count")
    right = prompt.reference_responses[0]
    *readings, sentence, answer = right.split("\n")
    assert prompt.chain_correct("\n".join([*readings[::-1], sentence, answer]))
    # The answer stays right, and the chain is wrong all the same: what a grader of answers cannot see.
    misread = re.sub(r"is (\d+)\.", lambda m: f"is {int(m[1]) + 1}.", right, count=1)
    assert misread.endswith(answer)
    assert not prompt.chain_correct(misread)
    assert not prompt.chain_correct("\n".join([*readings[:3], sentence, answer]))


def test_splits_differ_and_prompts_follow_from_their_index() -> None:
    seed, pool = Charts("seed", 40), Charts("pool", 40)
    assert [p.question for p in seed] != [p.question for p in pool]
    assert seed[7] == Charts("seed", 1000)[7]
    assert (np.asarray(seed[7].images[0].load()) == np.asarray(Charts("seed", 8)[7].images[0].load())).all()
    assert all(prompt.rationale is None for prompt in pool)
    assert pool.index_of(pool[39].id) == 39
