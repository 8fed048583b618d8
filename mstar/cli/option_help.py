"""Help for an option within a class that another option names (``--data.train.fields.help``)."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from typing import Any, Final, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser

from mstar.cli.config_files import SILENT, config_files, flag_name, given_values
from mstar.errors import ConfigError
from mstar.provenance import arguments_of

_HELP: Final = ".help"


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

    The class is the one that the command line (behind ``.help``, too) or its files name, else the one that the option
    is declared with.

    Raises:
        ConfigError: there is no such option.
    """
    named = {path.removesuffix(_HELP): cls for path, cls in _classes(given)}
    parts = flag_name(name).split(".")
    size = next((size for size in range(len(parts), 0, -1) if ".".join(parts[:size]) in hints), 0)
    path = ".".join(parts[:size])
    if not size:
        raise ConfigError(f"there is no option '{name}' that takes a class; see --help.")
    found = _behind(hints[path], named.get(path))
    for part in parts[size:]:
        owners = [cls for cls in found if part in parameters_of(cls)]
        if not owners:
            names = " or ".join(cls.__name__ for cls in found) or "a plain value"
            raise ConfigError(f"there is no option '{path}.{part}': '{path}' is {names}; name its class before.")
        path = f"{path}.{part}"
        found = _behind(parameters_of(owners[0])[part], named.get(path))
    if not found:
        raise ConfigError(f"'{path}' is a plain value; '--{path.rpartition('.')[0]}.help' explains it.")
    return "\n".join(_render(cls, path) for cls in found)


def _render(cls: type, path: str) -> str:
    parser = ArgumentParser(prog=f"--{path} {cls.__module__}.{cls.__qualname__}", add_help=False, usage="%(prog)s")
    parser.add_class_arguments(cls, path, fail_untyped=False)
    text = str(parser.format_help())
    kinds = public_kinds(cls)
    return text + "".join(f"  {line}\n" for line in (["one of these classes, or your own:", *kinds] if kinds else []))


def public_kinds(cls: type) -> list[str]:
    """The classes of a kind that mstar has and that are loaded, by the shortest name that they can be imported by."""

    def name(kind: type) -> str:
        package = kind.__module__.rpartition(".")[0]
        public = getattr(sys.modules.get(package), kind.__name__, None) is kind
        return f"{package if public else kind.__module__}.{kind.__name__}"

    return sorted({name(kind) for kind in _kinds(cls)})


def _kinds(cls: type) -> Iterator[type]:
    """The classes of a kind that mstar has; those that are loaded."""
    known: list[type] = cls.__subclasses__()
    for kind in known:
        if kind.__module__.startswith("mstar.") and not inspect.isabstract(kind) and kind.__name__[0] != "_":
            yield kind
        yield from _kinds(kind)


def _behind(hint: Any, named: str | None) -> list[type]:
    """The classes whose options an option has: the one that is named, else those of its type."""
    return classes_of(hint) if named is None else [_import_class(named)]


def classes_of(hint: Any) -> list[type]:
    """The classes in the type of an option."""
    if get_origin(hint) in (Union, types.UnionType, list, dict):
        return [cls for part in get_args(hint) for cls in classes_of(part)]
    own = inspect.isclass(hint) and hint.__module__.partition(".")[0] not in ("builtins", "typing", "enum")
    return [hint] if own else []


def loaded_classes() -> dict[str, str]:
    """The public classes of mstar that are loaded, by name, each with the package that it is imported from."""
    loaded = [(name, module) for name, module in sorted(sys.modules.items(), reverse=True) if name.startswith("mstar.")]
    return {name: home for home, module in loaded for name in getattr(module, "__all__", ()) if name[:1].isupper()}


def _import_class(named: str) -> type:
    module, _, name = named.rpartition(".")
    module = module or loaded_classes().get(name, "")
    try:
        found: type = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"there is no class '{named}': {error}.") from error
    return found


def named_classes(given: Sequence[str]) -> Iterator[tuple[str, type]]:
    """The classes that a command line and its files name, by the options that take them, as far as they are there."""
    for path, named in _classes(given):
        with suppress(ConfigError):
            found = _import_class(named)
            if inspect.isclass(found):
                yield path, found


def parameters_of(cls: type) -> dict[str, Any]:
    """The arguments of a class, with their types."""
    return {name: argument.annotation for name, argument in arguments_of(cls, typed=True).items()}


def _classes(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The classes that files, then flags, name, by the options that take them."""
    for path in config_files(given):
        yield from _classes_of(yaml.safe_load(path.read_text("utf-8")), "")
    short = loaded_classes()
    for option, value in given_values(given):
        if option.startswith("--") and ("." in value or value in short) and not value.startswith("--"):
            yield flag_name(option[2:]), value


def _classes_of(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return
    for key, part in value.items():
        if key == "class_path" and isinstance(part, str):
            yield path, part
        else:
            yield from _classes_of(part, path if key in SILENT else f"{path}.{key}".lstrip("."))
