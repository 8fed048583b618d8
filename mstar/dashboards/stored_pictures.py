"""Pictures whose bytes are in a run's data: found again through the prompt sources of its configuration."""

from __future__ import annotations

import glob
from argparse import ArgumentError
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from PIL import Image

from mstar.dashboards.run_config import SavedConfig, started_in
from mstar.errors import DataError, MstarError
from mstar.prompts import DataSources, PromptSource

__all__ = ["StoredPictures"]

_PARTS: Final = ("train", "warmup", "annotation", "validation", "test", "unlabelled")
# What a source takes from a place, and what it writes or looks at that a page has no use for.
_PLACES: Final = ("path", "root", "image_root", "ids")
_UNUSED: Final = {"quarantine": None, "check_images": "none"}


class StoredPictures:
    """The pictures that a run calls ``<prompt id>#<number>``.

    Args:
        configs: The configurations that the run saved; its prompt sources are opened when a picture is first asked for.
    """

    def __init__(self, configs: tuple[SavedConfig, ...] = ()) -> None:
        self._configs = configs

    def find(self, uri: str) -> Image.Image | None:
        """The picture of a name; None if no source has it.

        Raises:
            DataError: it cannot be decoded.
        """
        prompt_id, _, place = uri.rpartition("#")
        for source in self._sources if place.isdecimal() else ():
            try:
                prompt = source[source.index_of(prompt_id)]
            except DataError:
                continue
            for image in prompt.images:
                if image.uri == uri:
                    return image.load()
        return None

    @cached_property
    def _sources(self) -> list[PromptSource]:
        found = []
        for config in self._configs:
            values = config.values
            places = [Path(), *started_in(config.folder, values)]
            for settings in _described(values):
                found += _open(_placed(settings, places))
        return found


def _described(value: Any) -> Iterator[dict[str, Any]]:
    """The prompt sources in a configuration, and the data sets with parts; of those within another, the outer one."""
    if isinstance(value, list):
        for item in value:
            yield from _described(item)
    elif isinstance(value, dict):
        if str(value.get("class_path", "")).startswith("mstar.prompts.") or isinstance(value.get("dataset"), dict):
            yield value
        else:
            for item in value.values():
                yield from _described(item)


def _placed(value: Any, places: list[Path]) -> Any:
    """The settings of a source, with its files where they are now."""
    if isinstance(value, list):
        return [_placed(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    moved = {name: _UNUSED[name] if name in _UNUSED else _placed(item, places) for name, item in value.items()}
    for name in _PLACES:
        given = moved.get(name)
        if isinstance(given, str | list):
            paths = [_find(path, places) for path in ([given] if isinstance(given, str) else given)]
            moved[name] = paths[0] if isinstance(given, str) else paths
    return moved


def _find(path: str, places: list[Path]) -> str:
    return next((str(place / path) for place in places if glob.glob(str(place / path))), path)


def _open(settings: dict[str, Any]) -> list[PromptSource]:
    """The prompt sources of some settings; none if they are not the project's own, or their data is gone."""
    from jsonargparse import ArgumentParser

    # A page may be asked for of a run from elsewhere, whose configuration must not have other code run.
    if not all(name.startswith("mstar.prompts.") for name in _classes(settings)):
        return []
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=DataSources if "dataset" in settings else PromptSource)
    try:
        made = parser.instantiate(parser.parse_object({"source": settings})).source
        return [made] if isinstance(made, PromptSource) else _parts(made)
    # The page is made without pictures that cannot be had.
    except (ArgumentError, MstarError, OSError, ValueError):
        return []


def _parts(sources: DataSources) -> list[PromptSource]:
    return [part for name in _PARTS if (part := sources.open(name)) is not None]


def _classes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "class_path" in value:
            yield str(value["class_path"])
        for item in value.values():
            yield from _classes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _classes(item)
