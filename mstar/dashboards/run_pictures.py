"""The pictures of a run by their names: files where its configuration says that they are, or bytes in its data."""

from __future__ import annotations

import filecmp
import os
from functools import cached_property
from itertools import pairwise
from pathlib import Path

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

    def find(self, uri: str, prompt_id: str | None = None) -> Image.Image:
        """The picture of a name: the file in the folder that has it, else what the data has of that name.

        Args:
            prompt_id: The prompt that shows it: where folders have different files of the name, the one of its source.

        Raises:
            DataError: there is no such picture, or it is not known which of several it is.
        """
        found = self._folders(uri)
        if len(found) == 1:
            return open_image(uri, found[0])
        name, _, place = uri.rpartition("#")
        # What is inside the data is called by its prompt's id.
        asked = prompt_id if found else name if place.isdecimal() else None
        image = None if asked is None else self._find_in_data(uri, asked)
        if image is None and found:
            raise DataError(
                f"the run's data has different pictures called '{uri}', in {' and '.join(found)}, and no source "
                "of it says which one this is: name the folder with --image_root."
            )
        return open_image(uri, self._roots[0]) if image is None else image

    def depends_on_prompt(self, uri: str) -> bool:
        """Whether several folders have different pictures of this name."""
        return len(self._folders(uri)) > 1

    def _folders(self, uri: str) -> list[str]:
        """The folders that have a file of the name; only the first one where the files are the same."""
        found = [root for root in self._roots if os.path.lexists(os.path.join(root, uri))]
        try:
            same = all(filecmp.cmp(Path(one, uri), Path(other, uri), shallow=False) for one, other in pairwise(found))
        except OSError:
            same = False
        return found[:1] if same else found

    def _find_in_data(self, uri: str, prompt_id: str) -> Image.Image | None:
        """The picture that a prompt of the run's data calls so; None if no source has it."""
        for source in self._sources:
            index = source.index_of(prompt_id)
            for image in () if index is None else source[index].images:
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
