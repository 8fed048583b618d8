"""A shipped configuration is found by its name, unless the user has a file of that name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mstar.__main__ import main
from mstar.cli.shipped_configs import SHIPPED, find_config, locate_configs, shipped_names
from mstar.errors import ConfigError


@pytest.mark.parametrize("name", ["tiny/evolve.yaml", "configs/tiny/evolve.yaml", "./configs/tiny/evolve.yaml"])
def test_a_name_is_found_from_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(SHIPPED / "tiny/evolve.yaml")
    assert locate_configs(["fit", "--config", name, f"--config={name}", "--model.lr", "1", "--data.sources", name]) == [
        "fit", "--config", path, f"--config={path}", "--model.lr", "1", "--data.sources", path
    ]  # fmt: skip
    assert locate_configs(["fit", "-c", name]) == ["fit", "--config", path]


def test_a_file_of_the_users_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "tiny" / "evolve.yaml"
    mine.parent.mkdir()
    mine.write_text("model: {}\n")
    assert find_config("tiny/evolve.yaml").samefile(mine)
    assert find_config("configs/tiny/evolve.yaml") == SHIPPED / "tiny/evolve.yaml"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("configs/tiny/evolv.yaml", "did you mean tiny/evolve.yaml"),
        ("evolve.yaml", "did you mean small/evolve.yaml or tiny/evolve.yaml? "),
        ("tiny/evolve", "did you mean tiny/evolve.yaml? "),
        ("../elsewhere.yaml", "comes with mstar; 'mstar configs' lists them"),
        ("../configs/tiny/../tiny/x.yaml", "comes with mstar"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_may_be_meant(name: str, meant: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_config(name)
    assert f"no file '{name}'" in str(error.value)
    assert meant in str(error.value)


def test_values_of_other_options_and_inline_settings_are_left_alone() -> None:
    given = ["fit", "--output", "none.yaml", "--config", "{trainer: {max_steps: 1}}", "--config"]
    assert locate_configs(given) == given


def test_a_file_that_fsspec_reads_is_not_looked_for() -> None:
    given = ["fit", "--config", "s3://bucket/run.yaml", "--config=s3://bucket/run.yaml"]
    assert locate_configs(given) == given


def test_what_cannot_be_shown_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "show", "mine.yaml"]) == 1
    assert "there is no file 'mine.yaml'" in capsys.readouterr().err


def test_all_are_listed_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    listed = dict(line.split("  ", 1) for line in capsys.readouterr().out.split("\n\n")[0].splitlines())
    assert [name.strip() for name in listed] == shipped_names()
    assert {f"{path.parent.name}/{path.name}" for path in SHIPPED.glob("*/*.*")} == set(shipped_names())
    assert all(len(summary.strip()) > 8 for summary in listed.values())
    assert any(summary.strip() == "Stage 4 of the demo: self-evolving training" for summary in listed.values())


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "mstar", "configs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert listing.stdout is not None
    listing.stdout.close()
    assert "Traceback" not in listing.communicate()[1]
