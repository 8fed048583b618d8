from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mstar.dashboards.prompt_sample import sample_prompts
from mstar.storage import RunDirectory, write_json, write_responses


def test_the_sample_is_spread_over_the_run(run: Path) -> None:
    sample = sample_prompts(RunDirectory(run), 8)
    assert [prompt["id"] for prompt in sample.prompts] == [f"pool-0-{n}" for n in (10, 12, 15, 17, 20, 22, 25, 27)]
    assert (sample.num_shown, sample.num_prompts, sample.num_responses) == (8, 20, 62)
    first = sample.prompts[0]
    assert first["images"] == ["tiny-dice:pool/0/10"]
    assert (first["iteration"], first["samples"], len(first["responses"])) == (1, 4, 3)


@pytest.mark.parametrize("count", [0, 1, 3, 7, 9, 11, 1000])
def test_the_sample_has_the_asked_size(run: Path, make_group: Any, count: int) -> None:
    # Neither an iteration without responses nor one with few of them takes away from the number that was asked for.
    directory = RunDirectory(run)
    write_json(directory.report(0), {"iteration": 0})
    write_responses(directory.responses(2, 1), [make_group(25)])
    directory.responses(2, 0).unlink()
    prompts = sample_prompts(directory, count).prompts
    assert len(prompts) == min(count, 11)
    assert len({prompt["id"] for prompt in prompts}) == len(prompts)


def test_a_prompt_is_shown_in_every_iteration_that_it_was_sampled_in(run: Path, make_group: Any) -> None:
    directory = RunDirectory(run)
    for iteration in (3, 4):
        write_responses(directory.responses(iteration, 0), [make_group(index) for index in range(10, 20)])
    sample = sample_prompts(directory, 6)
    assert (sample.num_shown, sample.num_prompts) == (6, 20)
    rows = Counter(prompt["iteration"] for prompt in sample.prompts)
    # Those of the first iteration came back in the third and fourth.
    assert rows == {1: 3, 2: 3, 3: 3, 4: 3}
    shown = {n: {p["id"] for p in sample.prompts if p["iteration"] == n} for n in (1, 4)}
    assert shown[4] == shown[1]


def test_of_many_iterations_the_first_the_last_and_six_between_are_read(tmp_path: Path, make_group: Any) -> None:
    directory = RunDirectory(tmp_path)
    for iteration in range(1, 31):
        # The third prompt is sampled in few of them, and the fourth is not chosen.
        numbers = (0, 1, 2, 3) if iteration in (5, 6) else (0, 1)
        write_responses(directory.responses(iteration, 0), [make_group(number) for number in numbers])
    sample = sample_prompts(directory, 3)
    rows = [(prompt["id"], prompt["iteration"]) for prompt in sample.prompts]
    assert [number for name, number in rows if name == "pool-0-0"] == [1, 5, 9, 13, 18, 22, 26, 30]
    assert [number for name, number in rows if name == "pool-0-2"] == [5, 6]
    assert (sample.num_shown, sample.num_prompts, sample.num_responses) == (3, 4, 192)


def test_an_answer_that_was_voted_for_is_told_from_a_gold_one(tmp_path: Path, make_group: Any) -> None:
    groups = [replace(make_group(0), voted=True), make_group(1)]
    write_responses(RunDirectory(tmp_path).responses(1, 0), groups)
    assert [prompt["voted"] for prompt in sample_prompts(RunDirectory(tmp_path), 2).prompts] == [True, False]
