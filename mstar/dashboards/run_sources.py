"""The prompt sources that a run's saved configuration names, opened again where its files are now."""

from __future__ import annotations

import glob
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from mstar.dashboards.run_config import SavedConfig, settings_of, started_in
from mstar.errors import ConfigError
from mstar.prompts import DataSources, PromptSource
from mstar.prompts.sources import PartName

PARTS: Final[tuple[PartName, ...]] = get_args(PartName)
# What a source takes from a place, and what it writes or looks at that a reader has no use for.
_PLACES: Final = ("path", "root", "image_root", "ids")
_UNUSED: Final = {"quarantine": None, "splits": None, "check_images": "none"}


def describe_sources(value: Any) -> Iterator[dict[str, Any]]:
    """The settings of all prompt sources, and data sets with parts, in a configuration; of nested ones, the outer."""
    if isinstance(value, list):
        for item in value:
            yield from describe_sources(item)
    elif isinstance(value, dict):
        if str(value.get("class_path", "")).startswith("mstar.prompts.") or isinstance(value.get("dataset"), dict):
            yield value
        else:
            yield from describe_sources(list(value.values()))


def open_sources(
    settings: Mapping[str, Any], config: SavedConfig, parts: Sequence[PartName] = PARTS
) -> list[PromptSource]:
    """Opens a prompt source, or the parts of a data set that are there.

    Args:
        config: The configuration that they are from: a relative path is so to the working directory, or to the folder
            that the run was started in.
        parts: Which parts of a data set.

    Raises:
        ConfigError: a class in them is not one of mstar's: a configuration from elsewhere must not have other code run;
            or they are not valid.
        DataError: its data cannot be read.
    """
    from jsonargparse import ArgumentParser

    kind = DataSources if "dataset" in settings else PromptSource
    strange = next(_strange_names(settings, kind), None)
    if strange is not None:
        raise ConfigError(f"the prompts of {config.path} are of the class {strange}, which is not one of mstar's own")
    places = [Path(), *started_in(config.folder, config.values)]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=kind)
    try:
        made = parser.instantiate(parser.parse_object({"source": _placed(settings, places)})).source
    except ArgumentError as error:
        raise ConfigError(f"the prompts of {config.path} cannot be opened ({error})") from error
    if isinstance(made, DataSources):
        return [part for name in parts if (part := made.open(name)) is not None]
    return [made]


def _strange_names(value: Any, kind: Any) -> Iterator[str]:
    """What jsonargparse would import or call in some settings, and is no class that ``mstar.prompts`` defines.

    Args:
        kind: The type that is wanted of them. Where it is a class, a text is the name of one, too.
    """
    wanted = list(_classes_in(kind))
    for item in value if isinstance(value, list | tuple) else [value]:
        if not wanted or not isinstance(item, str | dict):
            continue
        named = item if isinstance(item, str) else item.get("class_path")
        made = wanted[0] if named is None else _own_class(str(named))
        if made is None or isinstance(item, str):
            yield str(named)
            continue
        kinds = get_type_hints(made.__init__)
        for name, given in settings_of(item).items():
            yield from _strange_names(given, kinds.get(name))


def _classes_in(kind: Any) -> Iterator[type[Any]]:
    """The classes in a type that are made of settings: all but those of plain values."""
    inner = get_args(kind)
    for part in inner:
        yield from () if get_origin(kind) is Literal else _classes_in(part)
    if not inner and isinstance(kind, type) and kind not in (str, int, float, bool, type(None)):
        yield kind


def _own_class(name: str) -> type[Any] | None:
    """The class of a name; None if it is none that a module of ``mstar.prompts`` defines, and not only imports."""
    module, _, own = name.rpartition(".")
    if not f"{module}.".startswith("mstar.prompts."):
        return None
    try:
        found = getattr(import_module(module), own, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and found.__module__.startswith("mstar.prompts.") else None


def _placed(value: Any, places: list[Path], counted: bool = False) -> Any:
    """The settings of a source, with its files where they are now; ``counted`` where a range of its rows is taken."""
    if isinstance(value, list):
        return [_placed(item, places, counted) for item in value]
    if not isinstance(value, dict):
        return value
    counted = counted or any(map(_has_range, (value, *value.values())))
    # A range counts the rows whose pictures are there, so that these are looked for again.
    unused = _UNUSED.keys() - ({"check_images"} if counted else ())
    moved = {name: _UNUSED[name] if name in unused else _placed(item, places, counted) for name, item in value.items()}
    # Prompts whose pictures nobody looked for count, too, so that the first ones would be others than the run's.
    if not counted and "check_images" in moved and "size" in moved:
        moved["size"] = None
    if not counted and "check_images" in settings_of(moved.get("dataset")):
        parts = {name: part | {"size": None} for name in PARTS if isinstance(part := moved.get(name), dict)}
        moved |= parts
    for name in _PLACES:
        given = moved.get(name)
        if isinstance(given, str | list):
            paths = [_find(path, places) for path in ([given] if isinstance(given, str) else given)]
            moved[name] = paths[0] if isinstance(given, str) else paths
    return moved


def _has_range(value: Any) -> bool:
    """Whether settings are those of a part by the numbers of its rows."""
    return bool(settings_of(value).get("start")) or settings_of(value).get("stop") is not None


def _find(path: str, places: list[Path]) -> str:
    for place in places:
        if (place / path).exists():
            return str(place / path)
        # Of a pattern, what stands before it is none.
        if glob.glob(path, root_dir=place, recursive=True):
            return str(Path(glob.escape(str(place))) / path)
    return path
