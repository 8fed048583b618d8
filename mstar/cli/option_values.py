"""What an option takes, where a message of the parser says only what type a value would not fit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from mstar.cli.config_files import SILENT, config_files
from mstar.cli.option_help import classes_of, loaded_classes, named_classes, parameters_of, public_kinds
from mstar.cli.option_names import KEY, given_options, locate

_EXPECTED: Final = re.compile(r"Expected an? (?P<type>.+?)(?:\. Got value: (?P<value>.*))?$")
# A setting below an option that has none.
_NESTED: Final = re.compile(r"NestedArg\(key='(?P<key>[^']+)'")
_GIVEN: Final = re.compile(r"Given value: (?P<value>.*)$")
_SETTINGS: Final = re.compile(
    r"Expected an instantiatable class, but (?P<base>[\w.]+) is abstract|Not a valid subclass of"
)
_REQUIRED: Final = re.compile(r"the following arguments are required: (?P<names>.+)")
# Of more classes than that, none is named.
_MOST_CLASSES: Final = 6
_BESIDE: Final = " beside class_path: the settings of a class stand below init_args."
_NO_CLASS: Final = "dot import path string"
# Lines that say nothing of their own.
_AROUND: Final = ("Does not validate", "Subtypes:", "Errors:", "Given value type:", "Expected a path but")
_WORDS: Final = {
    "<class 'int'>": "an integer",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'tuple'>": "a list",
    "<class 'list'>": "a list",
    "<class 'collections.abc.Iterable'>": "a list",
    "<class 'dict'>": "a mapping",
    "<class 'NoneType'>": "null",
}


def explain_value(message: str, given: Sequence[str]) -> str | None:
    """Says what an option takes, where a value or a class is refused.

    Returns:
        The sentence, with the option's whole name; None if the message is about something else.
    """
    key, *lines = [line.strip().removeprefix("- ") for line in message.splitlines() if line.strip()]
    named = KEY.match(key)
    if named is None:
        return None
    lines = [line for line in [key[named.end() :].lstrip(": "), *lines] if line and not line.startswith(_AROUND)]
    if any(_SETTINGS.match(line) for line in lines):
        element = next(_wrong_elements(named[1], given), None)
        return element or f"{locate(named[1], given)} {_explain_settings(lines)}"
    value: str | None = None
    types: list[str] = []
    for line in lines:
        expected, repeated = _EXPECTED.match(line), _GIVEN.match(line)
        if expected is not None and expected["type"].startswith(_NO_CLASS):
            types.append("a class by its module and name")
            value = expected["type"].partition(": ")[2]
        elif expected is not None and (words := _in_words(expected["type"])) is not None:
            types.extend(words)
            value = value or expected["value"]
        elif repeated is not None:
            value = repeated["value"] if _NESTED.match(repeated["value"]) else value or repeated["value"]
        else:
            return None
    if value is None or not types:
        return None
    if "off" in types:
        # YAML reads off as false, which such an option takes for it.
        types = [kind for kind in types if kind not in ("False", "true or false")]
    if nested := _NESTED.match(value):
        option = locate(named[1], given)
        return f"there is no option '{option}.{nested['key']}': {option} takes {_either(list(dict.fromkeys(types)))}."
    said = f"{locate(named[1], given, value)} is '{value}', but it takes {_either(list(dict.fromkeys(types)))}"
    near = list(_like(value)) if any("class" in kind for kind in types) else []
    return f"{said}; did you mean {_either(near)}?" if near else f"{said}."


def explain_missing(message: str, given: Sequence[str], hints: Mapping[str, Any] = MappingProxyType({})) -> str | None:
    """Says which options are missing, with the path of the class that needs them.

    Args:
        hints: The types of the parser's options: some take one class alone, which need not be named.

    Returns:
        The sentence; None if the message is about something else.
    """
    required = _REQUIRED.search(message)
    if required is None:
        return None
    names = [name.strip().removeprefix(f"{''.join(given[:1])}.") for name in required["names"].split(",")]
    known = {path for path, value in given_options(given) if value is not None}
    declared = [(path, cls) for path, hint in hints.items() for cls in classes_of(hint)]
    started = [(path, cls) for path, cls in declared if any(option.startswith(f"{path}.") for option in known)]
    for path, cls in [*named_classes(given), *started]:
        within = [f"{path}.{name}" for name in names]
        if all(name in parameters_of(cls) for name in names) and not known.intersection(within):
            return f"{_both(within)} missing, which {cls.__name__} needs."
    bare = not any(config_files(given)) and {"model", "data"} <= set(names)
    way = (
        "name a configuration by --config ('mstar configs' lists those that come with mstar)" if bare else "see --help"
    )
    return f"{_both([f'--{name}' for name in names])} missing; {way}."


def _explain_settings(lines: Sequence[str]) -> str:
    """What is wrong with settings that are of no class: it is not named, or they do not stand below ``init_args``."""
    value: object = None
    with suppress(ValueError, SyntaxError):
        value = ast.literal_eval("".join(match["value"] for match in map(_GIVEN.match, lines) if match))
    if isinstance(value, Mapping) and "class_path" in value:
        return f"has {_quoted(value)}{_BESIDE}"
    base = next(match["base"] for match in map(_SETTINGS.match, lines) if match)
    module, _, name = (base or "").rpartition(".")
    kinds = public_kinds(getattr(import_module(module), name)) if base else []
    named = f" ({_either([*kinds, 'one of your own'])})" if 0 < len(kinds) <= _MOST_CLASSES else ""
    return f"has settings, but no class that they are of: name one by class_path, or by a flag before them{named}."


def _wrong_elements(name: str, given: Sequence[str]) -> Iterator[str]:
    """What is said of the elements of a list that name no class, or have settings beside it."""
    for path, value in given_options(given):
        if isinstance(value, list) and f".{path}".endswith(f".{name}"):
            for number, item in enumerate(value, start=1):
                if isinstance(item, Mapping) and (strange := _quoted(item)):
                    fault = _BESIDE if "class_path" in item else ", but no class_path: name the class that they are of."
                    yield f"{path}: element {number} has {strange}{fault}"


def _quoted(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"'{key}'" for key in settings if key not in SILENT)


def _in_words(hint: str) -> list[str] | None:
    """A type as a user calls it; None for one that is not among those that options have."""
    if hint.startswith("typing.Literal["):
        return [str(value) for value in ast.literal_eval(hint.removeprefix("typing.Literal"))]
    if hint.startswith(("typing.List", "typing.Tuple", "list[", "tuple[")):
        return ["a list"]
    return [_WORDS[hint]] if hint in _WORDS else None


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _both(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) + (" are" if len(names) > 1 else " is")


def _like(value: str) -> Iterator[str]:
    """The loaded classes of mstar with nearly the name."""
    homes = loaded_classes()
    for near in get_close_matches(value.rpartition(".")[2], homes, 3, 0.75):
        yield f"{homes[near]}.{near}"
