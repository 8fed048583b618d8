"""The configurations that come with the package: found by name, listed and shown by ``mstar configs``."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from mstar.errors import ConfigError

_PACKAGE: Final = Path(__file__).parents[1]
# Within an installed package, beside the package in a clone.
SHIPPED: Final = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())
_PREFIX: Final = "configs/"
_OPTIONS: Final = ("--config", "--sources", "--data.sources")
_KINDS: Final = (".yaml", ".yml")


def shipped_names() -> list[str]:
    """The names of all configurations, e.g. ``tiny/evolve.yaml``; the recipes for clouds and clusters among them."""
    files = (path for path in SHIPPED.rglob("*") if path.suffix in (".yaml", ".sh"))
    return sorted(path.relative_to(SHIPPED).as_posix() for path in files)


def find_config(name: str) -> Path:
    """The file that a configuration's name stands for.

    Args:
        name: A path of the user's, which comes first, or the name of a configuration of the package, with or without
            ``configs/`` before it.

    Raises:
        ConfigError: there is neither.
    """
    if (own := Path(os.path.expanduser(name))).is_file():
        return own
    short = name.removeprefix("./").removeprefix(_PREFIX)
    names = shipped_names()
    if short in names:
        return SHIPPED / short
    near = (
        [other for other in names if other == f"{short}.yaml"]
        or [other for other in names if Path(short).stem == Path(other).stem]
        or get_close_matches(short, names)
    )
    meant = f"did you mean {' or '.join(near[:3])}? " if near else ""
    raise ConfigError(
        f"there is no file '{name}', and none of that name comes with mstar; {meant}'mstar configs' lists them."
    )


def locate_configs(arguments: Sequence[str]) -> list[str]:
    """A command line whose ``--config`` (``-c``) and ``sources`` options name files: the package's are paths in it."""
    located: list[str] = []
    for argument in arguments:
        argument = "--config" if argument == "-c" else argument
        option, equals, value = argument.rpartition("=")
        local = value.endswith(_KINDS) and "://" not in value
        if local and (option if equals else "".join(located[-1:])) in _OPTIONS:
            argument = f"{option}{equals}{find_config(value)}"
        located.append(argument)
    return located


def _summary(path: Path) -> str:
    """The first sentence of the comment that a file begins with; commands are indented in it."""
    lines = path.read_text(encoding="utf-8").removeprefix("#!/usr/bin/env bash\n").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("# ") and not line.startswith("#  "), lines)
    text = " ".join(line.removeprefix("# ") for line in comment)
    return re.split(r"(?<=\.) ", text, maxsplit=1)[0].rstrip(".:")


def _shown(path: Path) -> str:
    """What a file says; the data set's file that it names by its own folder is named so that a copy finds it, too."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"(?m)^( *sources: )(\.\./\S+)$", lambda line: f"{line[1]}{(path.parent / line[2]).resolve()}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Lists the configurations, or shows one.

    Args:
        arguments: The command line without the program's name; None takes the process's own.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="mstar configs",
        description="Lists the configurations that come with mstar, or shows one. A command takes one by its name: "
        "mstar fit --config tiny/evolve.yaml. A file of your own of that path comes first.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    shown = commands.add_parser(
        "show", help="print one, e.g. to copy it: mstar configs show tiny/evolve.yaml > mine.yaml"
    )
    shown.add_argument("name", help="its name, e.g. tiny/evolve.yaml")
    given = parser.parse_args(arguments)
    if given.command == "show":
        sys.stdout.write(_shown(find_config(given.name)))
        return 0
    names = shipped_names()
    width = max(map(len, names))
    for name in names:
        summary = textwrap.shorten(_summary(SHIPPED / name), 110, placeholder=" ...")
        sys.stdout.write(f"{name:{width}}  {summary}\n")
    sys.stdout.write(
        "\nThose of ablations/, overlays/ and cards/, and of one model, are laid on another; 'mstar configs show NAME' "
        "says on which.\n"
    )
    return 0
