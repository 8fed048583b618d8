"""A run's rows: what is kept, beside what is wrong, once each, and with the prompts of its own sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.errors import ConfigError, DataError
from mstar.peers.reading import find_run_files
from mstar.peers.rows import Kept, LabelledSteps, Pair, Sampled
from mstar.prompts import RecordPrompts
from mstar.storage import RunDirectory, write_responses
from mstar.types import Fate

from .conftest import WRONG, scored  # type: ignore[import-not-found]

pytestmark = pytest.mark.usefixtures("own_cache")


def kept(root: Path, iteration: int | None = None) -> list[tuple[str, str]]:
    return [(r.prompt.id, r.response) for r in find_run_files(root, iteration).rows() if isinstance(r, Kept)]


def test_what_was_kept_is_there_once_and_beside_it_something_wrong(run: Path) -> None:
    rows = list(find_run_files(run).rows())
    assert kept(run) == [("file", "It is\nAnswer: red"), *(("chat", f"{x} 3") for x in "abc"), ("text", "2")]
    pairs = [(r.prompt.id, r.chosen, r.rejected) for r in rows if isinstance(r, Pair)]
    # Wrong ones are taken in turn; what was cut off is not among them.
    assert pairs == [
        ("file", "It is\nAnswer: red", WRONG[0]),
        ("chat", "a 3", WRONG[0]),
        ("chat", "b 3", WRONG[1]),
        ("chat", "c 3", WRONG[0]),
        ("text", "2", WRONG[0]),
    ]
    assert [r.prompt.id for r in rows if isinstance(r, Sampled)] == ["file", "chat", "text"]
    # Questions alone are in the run's files.
    [chat] = {r.prompt for r in rows if isinstance(r, Kept) and r.prompt.id == "chat"}
    assert [turn.text for turn in chat.turns] == ["Be brief.", "Look: <image> what is it?", "A room."]
    assert chat.images[0].load().getpixel((0, 0)) == (0, 0, 255)


def test_steps_end_before_the_first_without_a_label(run: Path) -> None:
    steps = [r for r in find_run_files(run).rows() if isinstance(r, LabelledSteps)]
    assert [(r.prompt.id, r.steps, r.labels) for r in steps] == [
        ("file", ("It is", "Answer: red"), (True, True)),
        ("chat", ("two",), (False,)),
    ]


def test_one_iteration(run: Path) -> None:
    assert kept(run, 2) == [("file", "It is\nAnswer: red"), ("text", "2")]
    assert not any(isinstance(r, LabelledSteps) for r in find_run_files(run, 2).rows())
    with pytest.raises(ConfigError, match=r"has no iteration 3; choose one of its iterations: 1, 2"):
        find_run_files(run, 3)


def test_an_annotation_alone(run: Path) -> None:
    files = find_run_files(run / "annotate")
    assert files.have_pictures()
    assert {type(row) for row in files.rows()} == {LabelledSteps}


def test_what_pushes_away_is_not_imitated(run: Path, prompts: RecordPrompts) -> None:
    """Methods that learn from all samples keep wrong ones, with an advantage below 0."""
    from dataclasses import replace

    from mstar.storage import PromptResponses

    made = [replace(scored(prompts[2], n, t, Fate.KEPT), advantage=a) for n, (t, a) in enumerate([("2", 1), ("3", -1)])]
    evolve = RunDirectory(run / "evolve")
    write_responses(evolve.responses(3, 0), [PromptResponses(prompts[2], tuple(made))])
    assert kept(run, 3) == [("text", "2")]


def test_a_folder_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no responses and no step labels"):
        find_run_files(tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder; give the folder that a run or an annotation wrote"):
        find_run_files(tmp_path / "nowhere", 3)
