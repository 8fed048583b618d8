"""Help for an option within a class that another option names (``--data.train.fields.help``)."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from mstar.config_files import config_files
from mstar.errors import ConfigError

__all__ = ["asked_option", "explain_option"]

_HELP: Final = ".help"
# Steps of a path that stand in files and are left out in flags.
_SILENT: Final = frozenset({"class_path", "init_args"})


def asked_option(given: Sequence[str], known: Sequence[str]) -> str | None:
    """The option that a command line asks the help of, unless its parser answers: it does where a class is named."""
    for argument, following in pairwise([*given, "--"]):
        name, equals, _ = argument.removeprefix("--").partition("=")
        answered = name in known and (equals or not following.startswith("--"))
        if argument.startswith("--") and name.endswith(_HELP) and not answered:
            return name.removesuffix(_HELP)
    return None


def explain_option(name: str, given: Sequence[str], hints: Mapping[str, Any]) -> str:
    """The options of the class behind an option, as ``--help`` shows them.

    The class is the one that the command line or its files name, else the one that the option is declared with.

    Raises:
        ConfigError: there is no such option.
    """
    named = dict(_classes(given))
    parts = [part for part in name.split(".") if part not in _SILENT]
    size = next((size for size in range(len(parts), 0, -1) if ".".join(parts[:size]) in hints), 0)
    path = ".".join(parts[:size])
    if not size:
        raise ConfigError(f"there is no option '{name}' that takes a class; see --help.")
    found = _behind(hints[path], named.get(path))
    for part in parts[size:]:
        owners = [cls for cls in found if part in _parameters(cls)]
        if not owners:
            names = " or ".join(cls.__name__ for cls in found) or "a plain value"
            raise ConfigError(f"there is no option '{path}.{part}': '{path}' is {names}; name its class before.")
        path = f"{path}.{part}"
        found = _behind(_parameters(owners[0])[part], named.get(path))
    if not found:
        raise ConfigError(f"'{path}' is a plain value; '--{path.rpartition('.')[0]}.help' explains it.")
    return "\n".join(_render(cls, path) for cls in found)


def _render(cls: type, path: str) -> str:
    parser = ArgumentParser(prog=f"--{path} {cls.__module__}.{cls.__qualname__}", add_help=False, usage="%(prog)s")
    parser.add_class_arguments(cls, path, fail_untyped=False)
    text = str(parser.format_help())
    kinds = sorted({f"{kind.__module__}.{kind.__qualname__}" for kind in _kinds(cls)})
    return text + "".join(f"  {line}\n" for line in (["one of these classes, or your own:", *kinds] if kinds else []))


def _kinds(cls: type) -> Iterator[type]:
    """The classes of a kind that mstar has; those that are loaded."""
    known: list[type] = cls.__subclasses__()
    for kind in known:
        if kind.__module__.startswith("mstar.") and not inspect.isabstract(kind) and kind.__name__[0] != "_":
            yield kind
        yield from _kinds(kind)


def _behind(hint: Any, named: str | None) -> list[type]:
    """The classes whose options an option has: the one that is named, else those of its type."""
    if named is not None:
        module, _, name = named.rpartition(".")
        try:
            return [getattr(__import__(module, fromlist=[name]), name)]
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"there is no class '{named}': {error}.") from error
    if get_origin(hint) in (Union, types.UnionType, list, dict):
        return [cls for part in get_args(hint) for cls in _behind(part, None)]
    own = inspect.isclass(hint) and hint.__module__.partition(".")[0] not in ("builtins", "typing", "enum")
    return [hint] if own else []


def _parameters(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    return {name: hint for name, hint in hints.items() if name != "return"}


def _classes(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The classes that files, then flags, name, by the options that take them."""
    for path in config_files(given):
        yield from _classes_of(yaml.safe_load(path.read_text("utf-8")), "")
    for argument, following in pairwise([*given, ""]):
        name, equals, value = argument.partition("=")
        value = value if equals else following
        if name.startswith("--") and "." in value and not value.startswith("--"):
            yield ".".join(part for part in name[2:].split(".") if part not in _SILENT), value


def _classes_of(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return
    for key, part in value.items():
        if key == "class_path" and isinstance(part, str):
            yield path, part
        else:
            yield from _classes_of(part, path if key in _SILENT else f"{path}.{key}".lstrip("."))
