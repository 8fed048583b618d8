"""The pictures of a run by its prompts and their names: those of the prompt sources that its configuration names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from PIL import Image

from mstar.dashboards.run_config import SavedConfig
from mstar.dashboards.run_sources import describe_sources, open_sources
from mstar.errors import DataError, MstarError
from mstar.prompts import PromptSource
from mstar.prompts.images import open_image
from mstar.types import Prompt


class RunPictures:
    """The pictures of a run.

    Args:
        configs: The configurations that the run saved, whose prompt sources have its pictures.
        image_root: The folder of the picture files; None takes the pictures of the sources, and the files below the
            working directory where no source has the prompt.
    """

    def __init__(self, configs: tuple[SavedConfig, ...] = (), image_root: str | None = None) -> None:
        self._configs = configs
        self._root = image_root
        self._faults: list[str] = []

    def find(self, uri: str, prompt_id: str | None, question: str | None = None) -> Image.Image:
        """The picture that a prompt calls so.

        Args:
            question: What the prompt asks, where that is known: another one of its id may have a picture of that name.

        Raises:
            DataError: there is no such picture, or it cannot be read.
        """
        for prompt in self._prompts(prompt_id, question):
            for image in prompt.images:
                if image.uri == uri:
                    return image.load()
        try:
            return open_image(uri, self._root or ".")
        except DataError as error:
            if self._root is not None or not self._configs:
                raise
            why = next(iter(self._faults), "The run's data, as far as its classes are mstar's own, does not have it")
            raise DataError(f"{error} {why}; give the folder of its pictures as --image_root.") from error

    def conversation(self, prompt_id: str, question: str) -> str:
        """The question with what was said before it, where pictures are looked for in data that has the prompt."""
        return next((prompt.conversation for prompt in self._prompts(prompt_id, question)), question)

    def _prompts(self, prompt_id: str | None, question: str | None) -> Iterator[Prompt]:
        if self._root is None and prompt_id is not None:
            for source in self._sources:
                if (index := source.index_of(prompt_id)) is not None:
                    prompt = source[index]
                    if question in (None, prompt.question):
                        yield prompt

    @cached_property
    def _sources(self) -> list[PromptSource]:
        found: list[PromptSource] = []
        for config in self._configs:
            for settings in describe_sources(config.values):
                try:
                    found += open_sources(settings, config)
                # The page is made without pictures that cannot be had.
                except (MstarError, OSError, ValueError) as error:
                    self._faults.append(f"Data of the run is not looked at: {str(error).rstrip('.')}")
        return found
