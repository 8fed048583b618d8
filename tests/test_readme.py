"""The commands of the README are accepted, and the files that it names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mstar.__main__ import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)).replace("\\\n", " ")
COMMANDS = [shlex.split(line, comments=True)[3:] for line in BLOCKS.splitlines() if "-m mstar " in line]
TARGETS = sorted(set(re.findall(r"^make ([a-z-]+)", BLOCKS, flags=re.MULTILINE)))


def test_there_are_commands() -> None:
    assert {command[0] for command in COMMANDS} >= {"fit", "annotate", "test", "export", "report", "grade"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_is_accepted(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        main([*command, "--print_config"])
    assert end.value.code == 0


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert TARGETS == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in TARGETS)


def test_every_linked_file_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link]
    named = re.findall(r"`(configs/[\w/.]+\.yaml)`", TEXT)
    assert links
    assert [path for path in (*links, *named) if not (ROOT / path).exists()] == []
