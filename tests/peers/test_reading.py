"""A run's rows: what is kept, beside what is wrong, once each, and with the prompts of its own sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.errors import ConfigError, DataError
from mstar.peers import Kept, LabelledSteps, Pair, RunPrompts, Sampled, find_run_files
from mstar.peers.run_prompts import rollout_prompts
from mstar.prompts import RecordPrompts
from mstar.storage import RunDirectory, write_responses
from mstar.types import Fate

from .conftest import WRONG, outcomes, scored  # type: ignore[import-not-found]

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


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data": {"init_args": {}}}, r"names no prompts that can be opened: give the run's prompts with --prompts"),
        ({"rollout": None}, r"has no config\.yaml that names the prompts of its rows"),
        ({"data": {"init_args": {"train": {"class_path": "os.Evil"}}}}, r"of the class os\.Evil, which is not one of"),
    ],
)
def test_prompts_are_never_guessed(run: Path, prompts: RecordPrompts, change: dict[str, Any], complaint: str) -> None:
    path = run / "evolve/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(ConfigError, match=complaint):
        next(find_run_files(run).rows())
    assert isinstance(next(find_run_files(run).rows(RunPrompts([prompts]))), Sampled)


@pytest.mark.parametrize(("use", "answers"), [("voting", [None] * 3), ("oracle", ["red", "3", "2"])])
def test_answers_that_the_run_did_not_look_at_are_not_told(run: Path, use: str, answers: list[str | None]) -> None:
    path = run / "evolve/config.yaml"
    source = yaml.safe_load(path.read_text())["data"]["init_args"]["train"]
    path.write_text(yaml.safe_dump({"rollout": {"unlabelled": use}, "data": {"init_args": {"unlabelled": source}}}))
    rows = find_run_files(run).rows()
    assert [row.prompt.answer for row in rows if isinstance(row, Sampled)] == answers


def test_hidden_answers_stay_hidden_beside_a_cut_source(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(f'{{"id": "{i}", "question": "{i}?", "answer": "1"}}\n' for i in range(6)))

    def source(**more: Any) -> dict[str, Any]:
        own = {"path": str(path), "size": None, "check_images": "exists"}
        return {"class_path": "mstar.prompts.RecordPrompts", "init_args": own | more}

    rest = {"class_path": "mstar.prompts.PromptPart", "init_args": {"source": source(hide_answers=True), "start": 3}}
    data = {"train": source(size=3), "unlabelled": rest}
    config = {"rollout": {"unlabelled": "voting"}, "data": {"init_args": data}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    found = rollout_prompts(tmp_path)
    assert [found.find({"prompt_id": name}).answer for name in ("1", "4")] == ["1", None]


def test_a_prompt_that_changed_is_told(run: Path, prompts: RecordPrompts) -> None:
    from dataclasses import replace

    evolve = RunDirectory(run / "evolve")
    for other, complaint in ((replace(prompts[2], question="1 + 2?"), "another one by now"), (None, "in no prompt so")):
        asked = other or replace(prompts[2], id="gone")
        write_responses(evolve.responses(2, 0), [outcomes(asked, ["2"])])
        with pytest.raises(DataError, match=complaint):
            list(find_run_files(run).rows())


def test_a_folder_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no responses and no step labels"):
        find_run_files(tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder; give the folder that a run or an annotation wrote"):
        find_run_files(tmp_path / "nowhere", 3)
