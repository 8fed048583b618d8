"""``python -m mstar prompts``, by the command line; and the summary that other commands begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mstar.__main__ import main
from mstar.models.backbone import EMBEDDED_MODEL

pytestmark = pytest.mark.usefixtures("own_cache")


def write(path: Path, bad: int) -> str:
    rows: list[dict[str, Any]] = [{"problem": f"What is {i}?", "answer": str(i), "note": 1} for i in range(20)]
    for row in rows[:bad]:
        row["answer"] = ""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_source_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "pages" / "look.html"
    page.parent.mkdir()
    flags = ["--prompts.path", write(tmp_path / "data.jsonl", 1), "--model_name", EMBEDDED_MODEL, "--html", str(page)]
    assert main(["prompts", "--prompts", "mstar.prompts.RecordPrompts", *flags, "--rows", "3"]) == 0
    said = capsys.readouterr().out
    for line in (
        "prompts    19",
        "answers    19 integer",
        "gradeable  19 of 19 gold answers",
        "pictures   19 with none",
        "(of 19 counted)",
        "columns    question = problem (has a usual name)",
        "not read   note",
        "put aside  1 of 20 rows (counted from 0); see ",
        "           1 no_answer, first row 0: the column 'answer' is empty (name the column of the answers in",
    ):
        assert line in said
    assert page.read_text(encoding="utf-8").count('<article class="prompt">') == 3


def test_what_is_said_of_all_rows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--prompts.fields.tolerance", '{"relative": 0.05}', "--prompts.unless", '{"note": ["no", "maybe"]}']
    assert main(["prompts", write(tmp_path / "data.jsonl", 0), *flags, "--prompts.drop", '["Be brief."]']) == 0
    said = capsys.readouterr().out
    for line in (
        "tolerance = 0.05 relative (set in 'fields' for all)",
        "unless = note: no or maybe (not these rows)",
        "drop = 'Be brief.' (taken out of the questions)",
    ):
        assert line in said


def test_files_alone_are_ones_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a.jsonl", 0), write(tmp_path / "b.jsonl", 0)
    for flags in ([first], [first, second], ["--prompts.path", first]):
        assert main(["prompts", *flags, *(["--prompts.size", "7"] if len(flags) == 1 else [])]) == 0
        assert "columns    question = problem" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["prompts", "--prompts", first])
    (tmp_path / "long.json").write_text(json.dumps({"q": "x" * 9000}))
    with pytest.raises(SystemExit):
        main(["prompts", "--prompts", str(tmp_path / "long.json")])
    assert len(capsys.readouterr().err) < 5000


def test_parts_and_mixtures_show_their_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [{"class_path": "mstar.prompts.RecordPrompts", "init_args": {"path": write(tmp_path / f"{name}.jsonl", 0),
                "fields": {"id": ""}, "instruction": name}} for name in "ab"]  # fmt: skip
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({"dataset": sources[0], "train": {"start": 5}}))
    assert main(["prompts", "--sources", str(tmp_path / "one.yaml")]) == 0
    said = capsys.readouterr().out
    assert "prompts    15" in said
    assert "columns    question = problem" in said
    (tmp_path / "b.jsonl").write_text(json.dumps({"query": "What?", "answer": "1"}))
    mixed = {"class_path": "mstar.prompts.MixedPrompts", "init_args": {"sources": sources, "weights": [0.5, 0.5]}}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({"dataset": mixed, "train": {"start": 0}}))
    assert main(["prompts", "--sources", str(tmp_path / "two.yaml")]) == 0
    said = capsys.readouterr().out
    assert said.index("source     20 prompts of") < said.index("question = problem") < said.index("question = query")


def test_what_is_likely_wrong_is_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "Which?", "answer": "B"}, {"question": "Why?", "answer": "because " * 40}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["prompts", str(tmp_path / "a.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "1 of 1 questions that have some come without" in said
    assert "1 are longer than 200 characters" in said
    (tmp_path / "b.jsonl").write_text(json.dumps({"problem": "How many?", "solution": r"So $\boxed{7}$."}))
    assert main(["prompts", str(tmp_path / "b.jsonl")]) == 0
    assert "1 rationales state one: name their column in fields.answer" in capsys.readouterr().out


def test_a_configuration_names_it_as_for_annotate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "look.yaml"
    prompts = {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "seed", "size": 4}}
    config.write_text(yaml.safe_dump({"prompts": prompts}), encoding="utf-8")
    assert main(["prompts", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "prompts    4, 4 with a rationale" in said
    assert "pictures   4 with 1" in said


def test_of_unusable_data_what_is_known_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "data.jsonl", 15)
    assert main(["prompts", "--prompts", "mstar.prompts.RecordPrompts", "--prompts.path", path]) == 1
    said = capsys.readouterr()
    assert "columns    question = problem" in said.out
    assert "15 no_answer, first row 0" in said.out
    assert "15 of 20 rows are bad" in said.err


def test_a_wrong_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--prompts", "mstar.prompts.TinyDice", "--prompts.split", "test", "--prompts.size", "4"]
    assert main(["prompts", *flags, "--rows", "0"]) == 1
    assert "rows is 0, but it must be at least 1" in capsys.readouterr().err


def test_fit_and_test_begin_with_what_their_sources_are(evolve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    evolve("--trainer.max_steps", "1", "--rollout.num_samples", "2", "--rollout.dynamics", "false")
    said = capsys.readouterr().err
    assert "data.train: 32 prompts of TinyDice\n  answers: " in said
    assert "; gradeable 32 of 32 looked at\n  pictures: 32 with 1\ndata.validation: 8 prompts of TinyDice\n" in said
    assert "data.test" not in said
    evolve(command="test")
    said = capsys.readouterr().err
    assert "data.test: 8 prompts of TinyDice\n" in said
    assert "data.train" not in said
    evolve("--quiet", command="test")
    assert "data.test" not in capsys.readouterr().err


def test_options_that_would_not_be_read_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, sources = tmp_path / "data.jsonl", tmp_path / "sources.yaml"
    data.write_text('{"question": "1?", "answer": "1"}\n')
    sources.write_text(f"dataset: {{class_path: RecordPrompts, init_args: {{path: {data}}}}}\ntrain: {{}}\n")
    for more, complaint in (
        (["--part", "validation"], "part is 'validation', but only sources have parts"),
        (["--sources", str(sources)], "prompts (or files) and sources are both given"),
    ):
        assert main(["prompts", str(data), *more]) == 1
        assert complaint in capsys.readouterr().err
