"""``null`` where a class takes no None: the parser lets it pass for settings that are groups or factories."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, get_args

from mstar.errors import ConfigError
from mstar.provenance import arguments_of


def refuse_null(config: Any) -> None:
    """Makes sure that no setting of a class is None that cannot be.

    Raises:
        ConfigError: there is one, such as ``pixels:`` with nothing below it.
    """
    name = next(_wrong(config.as_dict(), ()), None)
    if name is not None:
        raise ConfigError(explain_null(name))


def explain_null(name: str) -> str:
    """What is said of a setting that is None and cannot be."""
    return f"{name} is null, which it cannot be: leave it out, or write its settings below it."


def _wrong(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _wrong(item, (*path, str(place)))
    if not isinstance(value, Mapping):
        return
    settings = value.get("init_args")
    if "class_path" in value and isinstance(settings, Mapping):
        never_none = _never_none(str(value["class_path"]))
        yield from (".".join((*path, name)) for name in never_none if settings.get(name, "") is None)
        value = settings
    for name, item in value.items():
        # A command's own settings are written without it.
        yield from _wrong(item, () if name == value.get("subcommand") else (*path, str(name)))


def _never_none(class_path: str) -> list[str]:
    """The arguments of a class that are never None, by its own words; none of one that cannot be asked."""
    module, _, name = class_path.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
        known = (
            arguments_of(cls, typed=True) if inspect.isclass(cls) else inspect.signature(cls, eval_str=True).parameters
        )
    except (ImportError, AttributeError, NameError, TypeError, ValueError):
        return []
    return [
        argument.name
        for argument in known.values()
        if argument.default is not None
        and argument.annotation not in (Any, object, None, type(None), argument.empty)
        and not any(part in (None, type(None)) for part in get_args(argument.annotation))
    ]
