"""The documentation is built strictly, and what it shows is run."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mstar.__main__ import main
from mstar.prompts import FieldMap
from mstar.storage import RunDirectory, read_json

ROOT = Path(__file__).parents[1]
EXTEND = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", EXTEND, flags=re.DOTALL)).replace("\\\n", " ")
COMMANDS = [shlex.split(line)[1:] for line in SHELL.splitlines() if line]
SMALL = [
    "--data.validation.size=8",
    "--rollout.num_samples=4",
    "--trainer.max_epochs=1",
    "--trainer.log_every_n_steps=1",
]


@pytest.fixture
def folder(tmp_path: Path, warm_policy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the page shows, and the demo's policy where it says."""
    for name, text in re.findall(r'```\w+ title="(.*?)"\n(.*?)```', EXTEND, flags=re.DOTALL):
        (tmp_path / name).write_text(text, encoding="utf-8")
    for stage in ("warmup", "evolve"):
        (tmp_path / "runs/demo" / stage).mkdir(parents=True)
        (tmp_path / "runs/demo" / stage / "policy").symlink_to(warm_policy)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference/training/index.html").read_text(encoding="utf-8")
    assert "Self-evolving training" in page
    assert "num_samples" in page
    # Who reads a page tells nobody else.
    for html in tmp_path.rglob("*.html"):
        assert not re.findall(r'<(?:script|img|link)[^>]* (?:src|href)="?https?://', html.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["mine_warmup.yaml", "mine_evolve.yaml"])
def test_the_configurations_for_own_data_are_accepted(name: str, tmp_path: Path) -> None:
    for title, text in re.findall(r'title="(.*?)"\n(.*?)```', DATA, flags=re.DOTALL):
        (tmp_path / title).write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(tmp_path / name), "--print_config"])
    assert end.value.code == 0


def test_every_key_of_a_field_map_is_explained() -> None:
    assert [field.name for field in fields(FieldMap) if f"`{field.name}`" not in DATA] == []


def test_every_package_has_its_line_in_the_table_of_folders() -> None:
    table = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in (ROOT / "mstar").glob("*/__init__.py")]
    assert not [name for name in packages if f"`mstar/{name}/" not in table]


def test_own_source_reward_rule_temperature_and_engine_go_together_in_one_run(folder: Path) -> None:
    options = [option for command in COMMANDS[:5] for option in command[3:]]
    assert all(command[:3] == ["fit", "--config", "tiny/evolve.yaml"] for command in COMMANDS[:5])
    assert main(["fit", "--config", "tiny/evolve.yaml", *options, "--data.train.size=160", *SMALL]) == 0
    run = folder / "runs/my_engine"
    report = read_json(RunDirectory(run).report(1))
    assert report["funnel"]["kept"] > 0
    assert "my_temperature.Better" in (run / "config.yaml").read_text()
    assert "Longest" in (run / "config.yaml").read_text()
    assert "MixedTemperatures" in (run / "config.yaml").read_text()
    events = EventAccumulator(str(run / "tensorboard/version_0")).Reload()
    tags = {re.sub(r"@4", "@K", tag) for tag in events.Tags()["scalars"]} - {"epoch"}
    explained = (ROOT / "docs" / "dashboard.md").read_text(encoding="utf-8")
    assert tags
    assert [tag for tag in sorted(tags) if f"`{tag}`" not in explained] == []


def test_own_benchmark_is_reported_by_its_groups(folder: Path) -> None:
    assert main([*COMMANDS[5], "--data.test.size=10"]) == 0
    assert "remainder" in (folder / "runs/my_benchmark/dice.md").read_text()


def test_runs_are_compared_by_what_predict_writes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {arm: folder / f"runs/compare/{arm}-0" for arm in ("base", "mine")}
    assert [[option for option in command if option.startswith("runs/compare/")] for command in COMMANDS[6:]] == [
        [f"runs/compare/{arm}-0{policy}" for policy in policies] for policies in ([""], ["/policy", ""]) for arm in runs
    ]
    runs["base"].mkdir(parents=True)
    (runs["base"] / "policy").symlink_to(folder / "runs/demo/evolve/policy")
    assert main([*COMMANDS[8], "--data.test.size=10"]) == 0
    for copy in ("mine-0", "base-1", "mine-1", "base-2", "mine-2"):
        shutil.copytree(runs["base"], folder / "runs/compare" / copy, symlinks=True)
    capsys.readouterr()
    runpy.run_path("compare_runs.py")
    assert capsys.readouterr().out == "+0.0 points, 95 % interval from +0.0 to +0.0\n"
