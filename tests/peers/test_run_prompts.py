"""The prompts of a run's rows: those of its own sources, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.errors import ConfigError, DataError
from mstar.peers.reading import find_run_files
from mstar.peers.rows import Sampled
from mstar.peers.run_prompts import RunPrompts, rollout_prompts
from mstar.prompts import RecordPrompts
from mstar.storage import RunDirectory, write_responses

from .conftest import outcomes  # type: ignore[import-not-found]

pytestmark = pytest.mark.usefixtures("own_cache")


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
