"""The commands of the README and of the documentation are accepted, and the files that they name exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mstar.__main__ import main
from mstar.cli.shipped_configs import find_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", "\n".join(TEXTS.values()), flags=re.DOTALL)).replace("\\\n", " ")
LINES = [line.removeprefix("python -m ") for line in BLOCKS.splitlines()]
FILES = re.findall(r'```\w+ title="(.*?)"\n(.*?)```', "\n".join(TEXTS.values()), flags=re.DOTALL)
COMMANDS = sorted({tuple(shlex.split(line, comments=True)[1:]) for line in LINES if line.startswith("mstar ")})


def test_there_are_commands() -> None:
    named = {"fit", "annotate", "test", "export", "report", "grade", "score", "prompts", "memory", "demo", "configs"}
    assert {command[0] for command in COMMANDS} >= named


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_is_accepted(command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FILES:
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    if command[0] == "configs":
        assert main(command) == 0
        return
    if command[0] == "memory":
        assert main([*command, "--rows", "0"]) in (0, 1)
        return
    with pytest.raises(SystemExit) as end:
        main([*command, "--help" if command[0] == "demo" else "--print_config"])
    assert end.value.code == 0


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make ([a-z-]+)", BLOCKS, flags=re.MULTILINE))
    targets |= {target for text in TEXTS.values() for target in re.findall(r"`make ([a-z-]+)", text)}
    assert targets >= {"demo", "small", "test", "wheel", "docs"}
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("words", "options"),
    [(["ablations"], ""), (["ablations", "ARMS=nft grpo", "SEEDS=0 1"], "--arms nft grpo --seeds 0 1")],
)
def test_make_hands_arms_and_seeds_on(words: list[str], options: str) -> None:
    command = ["make", "--no-print-directory", "-n", "-o", ".venv/.installed", *words]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [".venv/bin/python", "-m", "mstar.demo.ablations", *options.split()]


_SMALL = "mstar.small --seed 0 --output runs/small --task charts"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("around", "words", "told"),
    [
        ("", "demo", "mstar.demo --seed 0 --output runs/demo"),
        ("", "demo SEED=1 OUT='a b'", "mstar.demo --seed 1 --output 'a b'"),
        ("SEED=1 OUT=mine", "demo", "mstar.demo --seed 1 --output mine"),
        ("", "small", _SMALL),
        ("MODEL=x ARMS=arm64 TASK=x NUMBERS=x", "small", _SMALL),
        ("ARMS=x SEEDS=x", "ablations", "mstar.demo.ablations"),
        ("", "clean-demo", "rm -rf -- runs/demo"),
        ("", "clean-demo OUT='a b'", "rm -rf -- 'a b'"),
        ("OUT=/precious", "clean-demo", ""),
    ],
)
def test_what_make_takes_from_the_environment(around: str, words: str, told: str) -> None:
    given = dict(word.split("=") for word in around.split())
    environment = {name: value for name, value in os.environ.items() if name not in ("OUT", "SEED")} | given
    command = ["make", "-s", "-n", "-o", ".venv/.installed", "-o", ".venv/.small", *shlex.split(words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is (told != "")
    said = shlex.split(done.stdout.replace("\\\n", "").removeprefix(".venv/bin/python -m "))
    assert said == shlex.split(told)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_named_file_exists(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXTS[page]) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    for name in re.findall(r"`((?:[\w]+/)+[\w.]+\.yaml)`", TEXTS[page]):
        find_config(name)
