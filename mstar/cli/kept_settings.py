"""What a class that takes another one's place keeps of its settings: jsonargparse lets those of the same name stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from mstar.cli.config_files import config_files, given_values
from mstar.cli.option_help import named_classes
from mstar.cli.option_names import given_options
from mstar.provenance import arguments_of


def find_kept(given: Sequence[str]) -> Iterator[str]:
    """Says of each such class which settings it keeps that nobody gave it; those that are its defaults are left out."""
    flags = [f"{option}={value}" for option, value in given_values(given) if option.startswith("--")]
    files = [["--config", str(path)] for path in config_files(given)]
    classes: dict[str, type] = {}
    settings: dict[str, dict[str, Any]] = defaultdict(dict)
    kept: dict[str, tuple[type, dict[str, Any]]] = {}
    for layer in [*files, [flag for flag in flags if not flag.startswith("--config=")]]:
        for path, cls in named_classes(layer):
            before = classes.get(path, cls)
            # What inherits from a class is meant to have its settings.
            if not issubclass(cls, before):
                own = arguments_of(cls)
                there = {n: value for n, value in settings[path].items() if n in own and own[n].default != value}
                kept[path] = (before, there)
            classes[path] = cls
        for option, value in given_options(layer):
            path, _, name = option.rpartition(".")
            settings[path][name] = value
            if path in kept:
                kept[path][1].pop(name, None)
    for path, (before, values) in kept.items():
        if values:
            said = ", ".join(f"{n} {v}" if isinstance(v, str | int | float) else n for n, v in values.items())
            yield f"{path}: {classes[path].__name__}, in the place of {before.__name__}, keeps its {said}"
