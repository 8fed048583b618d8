"""What is answered before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mstar
from mstar.__main__ import main

HEAVY = ["torch", "lightning", "transformers", "numpy", "pyarrow", "PIL", "mstar.cli"]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], [], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from mstar.__main__ import main; status = main(sys.argv[1:]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    from mstar import cli

    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in [*cli.MstarCLI.subcommands(), *cli._TOOLS])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mstar {mstar.__version__}\n"
