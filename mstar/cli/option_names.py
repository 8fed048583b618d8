"""The whole name of an option that a message of the parser names in part, and those that a wrong one is near to."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml

from mstar.cli.config_files import SILENT, config_files, flag_name, given_values
from mstar.cli.null_values import explain_null
from mstar.cli.option_help import named_classes, parameters_of

# How jsonargparse says that it does not know an option.
_UNKNOWN: Final = (
    re.compile(r"(?:Option|Key) '(?P<name>[^']+)' is not accepted"),
    re.compile(r"(?:Group|Subcommand) '(?P<group>[^']+)' does not accept option '(?P<name>[^']+)'"),
    re.compile(r"[Uu]nrecognized arguments: --(?P<name>[^\s=]+)"),
)
# How it names the option that a message is about.
KEY: Final = re.compile(r'Parser key "([^"]+)"')
_NULL: Final = re.compile(r"Unable to load config ['\"]null['\"]")
_NO_CLASS: Final = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_NO_MODULE: Final = re.compile(r"given class_path '(?P<class>[\w.]+)': (?P<why>No module named '[\w.]+')$")
_STRAY: Final = re.compile(r"[Uu]nrecognized arguments: (?P<word>[^-\s]\S*)")
# What takes a class that a configuration names.
_OF_CLASSES: Final = ("model", "data")
# Where a file of sources is given.
_SOURCES: Final = frozenset({"sources", "data.sources"})


def explain_unknown(
    message: str, given: Sequence[str], known: Iterable[str], required: Sequence[str] = ()
) -> str | None:
    """Says which option or class is unknown and which one may be meant, or that a group of settings is null.

    None if the message of jsonargparse is about something else.

    Args:
        required: The options that must be given; a value without an option is taken for the one that is missing.
    """
    key = KEY.search(message)
    if key is not None and _NULL.search(message):
        return explain_null(locate(key[1], given))
    if key is not None and (missing := _NO_CLASS.search(message)):
        return f"{locate(key[1], given)}: there is no '{missing[1]}.{missing[2]}'" + _like_classes(*missing.groups())
    if key is not None and (missing := _NO_MODULE.search(message)):
        where = "a class of your own lies in the working directory or in an installed package"
        return f"{locate(key[1], given)} is '{missing['class']}', which cannot be imported ({missing['why']}): {where}."
    if stray := _STRAY.search(message):
        missing_options = sorted(set(required) - {name for name, _ in given_options(given)})
        if len(missing_options) == 1:
            return f"'{stray['word']}' belongs to no option; did you mean --{missing_options[0]} {stray['word']}?"
        return f"'{stray['word']}' belongs to no option: put a value with spaces in quotes, and --config before a file."
    found = next((match for pattern in _UNKNOWN if (match := pattern.search(message))), None)
    if found is None:
        return None
    group = found.groupdict().get("group")
    # A command is no part of an option's name.
    name = flag_name(found["name"] if group is None or group in given[:1] else f"{group}.{found['name']}")
    whole = locate(name, given)
    within = [f"{path}.{name}" for path, cls in named_classes(given) if name.partition(".")[0] in parameters_of(cls)]
    near = within or [whole.removesuffix(name) + option for option in _nearest(name, known)]
    head = whole.partition(".")[0]
    if not near and head in _OF_CLASSES and head != whole and head not in dict(named_classes(given)):
        return f"there is no option '{whole}' yet: name a configuration by --config, or the class of {head} before it."
    return f"there is no option '{whole}'" + (f"; did you mean {' or '.join(near)}?" if near else "; see --help.")


def name_whole(message: str, given: Sequence[str]) -> str:
    """The message with the whole name of the option that it is about."""
    return KEY.sub(lambda match: f'Parser key "{locate(match[1], given)}"', message)


def replace_sources(given: Sequence[str]) -> list[str]:
    """A command line in which a file of sources takes the place of an earlier one, which it would be merged into.

    Parts, sizes, instructions and pixels of the data that a shipped file names would else be those of other data, too.
    """
    changed: list[str] = []
    had: set[str] = set()
    for argument, (option, value) in zip(given, given_values(given), strict=True):
        named: Iterable[tuple[str, Any]] = [(option.removeprefix("--"), value)]
        if option == "--config" and Path(value).is_file():
            named = _options(yaml.safe_load(Path(value).read_text("utf-8")), [], Path(value).parent)
        files = {name for name, said in named if name in _SOURCES and isinstance(said, str)}
        changed += [f"--{name}=null" for name in sorted(files & had)]
        changed.append(argument)
        had |= files
    return changed


def _like_classes(module: str, name: str) -> str:
    """The rest of the sentence: what of a module that could be imported has nearly the name."""
    found = vars(sys.modules.get(module, object))
    public = found.get("__all__", [known for known in found if not known.startswith("_")])
    near = [f"{module}.{known}" for known in get_close_matches(name, public, 3)]
    return f"; did you mean {' or '.join(near)}?" if near else "."


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """Options like an unknown one: spelt nearly so, or the short or long form of it (lr, seed_everything)."""
    options = {option for option in known if option not in ("help", "config") and not option.endswith(".help")}
    head, dot, rest = name.partition(".")
    heads = {"init_args", *(option.partition(".")[0] for option in options)}
    if dot and head not in heads:
        # The options behind a part that takes any class are not listed: its name alone can be wrong.
        return [f"{near}.{rest}" for near in get_close_matches(head, heads, 1)]
    initials = "".join(word[:1] for word in name.split("_"))
    short = [option for option in sorted(options) if option == initials or option.startswith(f"{name}_")]
    return list(dict.fromkeys([*short, *get_close_matches(name, options, 3)]))[:3]


def locate(name: str, given: Sequence[str], value: str | None = None) -> str:
    """The one whole name that ends so, among the flags and in the files; the name itself if there are several.

    Args:
        name: The end of the name.
        value: The option's value, which tells it from others whose names end so.
    """
    # What a flag has before a dot is an option, too.
    split = [(f".{path}.".partition(f".{name}."), said) for path, said in given_options(given)]
    found = [(before, said) for (before, within, _), said in split if within]
    if len({before for before, _ in found}) > 1:
        found = [(before, said) for before, said in found if str(said) == value]
    heads = {before for before, _ in found}
    return f"{heads.pop()}.{name}".lstrip(".") if len(heads) == 1 else name


def given_options(given: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The whole names of all options that flags and files give, with their values."""
    for option, value in given_values(given):
        if option.startswith("--"):
            yield flag_name(option[2:]), value
        if option.endswith("sources"):
            yield from _options(value, option.removeprefix("--").split("."), Path())
    for path in config_files(given):
        yield from _options(yaml.safe_load(path.read_text("utf-8")), [], path.parent)


def _options(value: Any, above: list[str], folder: Path) -> Iterator[tuple[str, Any]]:
    if above[-1:] == ["sources"] and isinstance(value, str) and (file := folder / value).is_file():
        # The sources have a file of their own.
        value, folder = yaml.safe_load(file.read_text("utf-8")), file.parent
    if isinstance(value, list):
        for item in value:
            yield from _options(item, above, folder)
    if isinstance(value, Mapping):
        for key, part in value.items():
            path = above if key in SILENT else [*above, str(key)]
            yield ".".join(path), part
            yield from _options(part, path, folder)
