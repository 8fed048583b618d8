"""What is answered before anything heavy is imported."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mstar
from mstar.__main__ import main

HEAVY = ["torch", "lightning", "transformers", "numpy", "pyarrow", "PIL", "mstar.cli.commands"]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], [], ["--version"], ["configs"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from mstar.__main__ import main; status = main(sys.argv[1:]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    from mstar.cli.commands import _LIGHT, _LIGHTNING, _TOOLS
    from mstar.cli.lightning_cli import MstarCLI

    assert tuple(MstarCLI.subcommands()) == _LIGHTNING
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in [*_LIGHTNING, *_TOOLS, "memory", *_LIGHT])


def test_tools_that_need_no_model_do_without_torch(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"response": "Answer: 3", "answer": "3"}) + "\n")
    dice = {"class_path": "TinyDice", "init_args": {"split": "test", "size": 4}}
    commands = [
        ["grade", f"--input={rows}", f"--output={tmp_path / 'graded.jsonl'}"],
        ["leakage", f"--train={json.dumps(dice)}", f"--benchmarks={json.dumps([dice])}", f"--output={tmp_path / 'a'}"],
        ["prompts", f"--prompts={json.dumps(dice)}", f"--html={tmp_path / 'prompts.html'}"],
        ["report", f"--run={tmp_path}"],
    ]
    code = (
        "import json, sys; from mstar.__main__ import main; status = [main(line) for line in json.loads(sys.argv[1])];"
        "print([name for name in ('torch', 'lightning', 'transformers') if name in sys.modules], status)"
    )
    given = [sys.executable, "-c", code, json.dumps(commands)]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] [0, 0, 0, 1]", done.stderr  # what report is given is no run


@pytest.mark.parametrize(
    ("command", "then"),
    [("fit", "; the same command goes on"), ("annotate", "; the same command goes on"), ("validate", ""), ("test", "")],
)
def test_only_what_is_resumed_is_said_to_go_on(
    command: str, then: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mstar.cli import commands
    from mstar.interruption import stop_if_asked

    def run(arguments: list[str]) -> int:
        signal.raise_signal(signal.SIGTERM)
        stop_if_asked()
        return 0

    monkeypatch.setattr(commands, "run", run)
    assert main([command]) == 143
    assert capsys.readouterr().err.splitlines()[-1] == f"mstar {command}: stopped by SIGTERM{then}."


def test_ctrl_c_ends_what_has_nothing_to_save_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mstar.cli import commands

    def run(_: list[str]) -> None:
        raise KeyboardInterrupt  # what Python makes of the signal, unless it was started with that ignored

    monkeypatch.setattr(commands, "run", run)
    assert main(["grade"]) == 130
    assert capsys.readouterr().err == "mstar grade: stopped by SIGINT.\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(errno.EACCES, "no", "rows.jsonl"),
            "rows.jsonl cannot be read or written (Permission denied): mend its path or permissions, then run the same "
            "command again; it goes on from what is there.",
        ),
        (
            FileNotFoundError(errno.ENOENT, "no", "rows.jsonl"),
            "rows.jsonl cannot be read or written (No such file or directory): mend its path or permissions, then run "
            "the same command again; it goes on from what is there.",
        ),
        (
            OSError(errno.ENOSPC, "full", "rows.jsonl"),
            "rows.jsonl cannot be written (No space left on device): make room, or mend the path or its "
            "permissions, then run the same command again; it goes on from what is there.",
        ),
        (
            OSError(errno.EDQUOT, "full"),
            "a file cannot be written (Disk quota exceeded): make room, or mend the path or its permissions, "
            "then run the same command again; it goes on from what is there.",
        ),
        (PermissionError(errno.EACCES, "of no file"), None),
        (ConnectionRefusedError(errno.ECONNREFUSED, "no server"), None),
    ],
)
def test_a_files_error_is_told_for_what_it_is(
    error: OSError, said: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Any:
        raise error

    monkeypatch.setattr("mstar.dashboards.report.write_report", fail)
    if said is None:
        with pytest.raises(OSError, match="no"):
            main(["report"])
    else:
        assert main(["report"]) == 1
        assert capsys.readouterr().err == f"mstar report: error: {said}\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mstar {mstar.__version__}\n"


@pytest.mark.parametrize("command", [["demo"], ["configs"], ["fit", "--help"]])
def test_windows_itself_is_refused_in_a_sentence(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(command) == 1
    assert (
        capsys.readouterr().err
        == "mstar: error: Windows itself is not supported: run mstar within WSL, which has a Linux.\n"
    )
