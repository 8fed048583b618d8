"""The pictures of a run by their names: files where its configuration says that they are, or bytes in its data."""

from __future__ import annotations

import os
from functools import cached_property

from PIL import Image

from mstar.dashboards.run_config import SavedConfig, image_roots
from mstar.dashboards.run_sources import describe_sources, open_parts, open_settings
from mstar.errors import DataError, MstarError
from mstar.prompts import DataSources, PromptSource
from mstar.prompts.images import open_image


class RunPictures:
    """The pictures of a run.

    Args:
        configs: The configurations that the run saved; its prompt sources are opened when a picture is no file.
        image_root: The folder of the picture files; None takes those that the configurations say.
    """

    def __init__(self, configs: tuple[SavedConfig, ...] = (), image_root: str | None = None) -> None:
        self._configs = configs
        self._roots = image_roots(configs) if image_root is None else (image_root,)

    def find(self, uri: str) -> Image.Image:
        """The picture of a name: the file in the first folder that has it, else what the data has of that name."""
        root = next((root for root in self._roots if os.path.lexists(os.path.join(root, uri))), None)
        image = self._find_stored(uri) if root is None else None
        return open_image(uri, root or self._roots[0]) if image is None else image

    def _find_stored(self, uri: str) -> Image.Image | None:
        """The picture that a run calls ``<prompt id>#<number>``; None if no source has it."""
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
            for settings in describe_sources(config.values):
                try:
                    made = open_settings(settings, config)
                    found += open_parts(made) if isinstance(made, DataSources) else [made]
                # The page is made without pictures that cannot be had.
                except (MstarError, OSError, ValueError):
                    continue
        return found
