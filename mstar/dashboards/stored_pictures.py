"""Pictures whose bytes are in a run's data: found again through the prompt sources of its configuration."""

from __future__ import annotations

from functools import cached_property

from PIL import Image

from mstar.dashboards.run_config import SavedConfig
from mstar.dashboards.run_sources import describe_sources, open_parts, open_settings
from mstar.errors import DataError, MstarError
from mstar.prompts import DataSources, PromptSource

__all__ = ["StoredPictures"]


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
            for settings in describe_sources(config.values):
                try:
                    made = open_settings(settings, config)
                    found += open_parts(made) if isinstance(made, DataSources) else [made]
                # The page is made without pictures that cannot be had.
                except (MstarError, OSError, ValueError):
                    continue
        return found
