"""The prompt sources that a run's saved configuration names, opened again where its files are now."""

from __future__ import annotations

import glob
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mstar.dashboards.run_config import SavedConfig, groups_in, settings_of, started_in
from mstar.errors import ConfigError
from mstar.prompts import DataSources, PromptSource

PARTS: Final = ("train", "warmup", "annotation", "validation", "test", "unlabelled")
# What a source takes from a place, and what it writes or looks at that a reader has no use for.
_PLACES: Final = ("path", "root", "image_root", "ids")
_UNUSED: Final = {"quarantine": None, "check_images": "none"}


def is_source(value: Any) -> bool:
    """Whether a setting is a prompt source, or a data set with parts."""
    if not isinstance(value, dict):
        return False
    return str(value.get("class_path", "")).startswith("mstar.prompts.") or isinstance(value.get("dataset"), dict)


def describe_sources(value: Any) -> Iterator[dict[str, Any]]:
    """The settings of all prompt sources in a configuration; of those within another, the outer one."""
    if is_source(value):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from describe_sources(item)


def open_settings(settings: Mapping[str, Any], config: SavedConfig) -> PromptSource | DataSources:
    """Opens a prompt source, or a data set with parts.

    Args:
        config: The configuration that they are from: a relative path is so to the working directory, or to the folder
            that the run was started in.

    Raises:
        ConfigError: a class in them is not one of mstar's: a configuration from elsewhere must not have other code run;
            or they are not valid.
        DataError: its data cannot be read.
    """
    from jsonargparse import ArgumentParser

    classes = (str(group["class_path"]) for group in groups_in(settings) if "class_path" in group)
    strange = next((name for name in classes if not name.startswith("mstar.prompts.")), None)
    if strange is not None:
        raise ConfigError(f"the prompts of {config.path} are of the class {strange}, which is not one of mstar's own")
    places = [Path(), *started_in(config.folder, config.values)]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=DataSources if "dataset" in settings else PromptSource)
    try:
        made: PromptSource | DataSources = parser.instantiate(
            parser.parse_object({"source": _placed(settings, places)})
        ).source
    except ArgumentError as error:
        raise ConfigError(f"the prompts of {config.path} cannot be opened ({error})") from error
    return made


def open_parts(sources: DataSources, names: Sequence[str] = PARTS) -> list[PromptSource]:
    """The parts of a data set that are there."""
    return [part for name in names if (part := sources.open(name)) is not None]  # type: ignore[arg-type]


def _placed(value: Any, places: list[Path]) -> Any:
    """The settings of a source, with its files where they are now."""
    if isinstance(value, list):
        return [_placed(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    moved = {name: _UNUSED[name] if name in _UNUSED else _placed(item, places) for name, item in value.items()}
    # Prompts whose pictures nobody looked for count, too, so that the first ones would be others than the run's.
    if "check_images" in moved and "size" in moved:
        moved["size"] = None
    if "check_images" in settings_of(moved.get("dataset")):
        parts = {name: part | {"size": None} for name in PARTS if isinstance(part := moved.get(name), dict)}
        moved |= parts
    for name in _PLACES:
        given = moved.get(name)
        if isinstance(given, str | list):
            paths = [_find(path, places) for path in ([given] if isinstance(given, str) else given)]
            moved[name] = paths[0] if isinstance(given, str) else paths
    return moved


def _find(path: str, places: list[Path]) -> str:
    return next((str(place / path) for place in places if glob.glob(str(place / path))), path)
