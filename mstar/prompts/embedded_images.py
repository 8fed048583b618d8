"""Pictures whose bytes are in the data: they stand in the table of its prompts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from mstar.prompts.images import PixelLimits, decode_image

__all__ = ["EmbeddedImage", "read_picture"]


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """A picture whose bytes are in a table.

    Attributes:
        uri: ``<prompt id>#<number of the picture>``.
        table: The table's folder.
        index: The prompt's row in the table.
        place: The picture's number in the prompt.
        limits: How many pixels the decoded picture has.
    """

    uri: str
    table: Path
    index: int
    place: int
    limits: PixelLimits

    def load(self) -> Image.Image:
        """Decodes the picture upright to RGB, transparent parts on white.

        Raises:
            DataError: it is no whole picture, or has too many pixels.
        """
        return decode_image(read_picture(self.table, self.index, self.place), self.uri, self.limits)


def read_picture(table: Path, index: int, place: int) -> bytes:
    """The bytes of a picture, by the table's folder, the prompt's row in it and the picture's number in the prompt."""
    [row] = _open(table).fast_slice(index, 1).to_pylist()
    picture: bytes = row["pictures"][place]
    return picture


@cache
def _open(table: Path) -> Any:
    """The column of the pictures, memory-mapped; opened once in every process."""
    from datasets import Dataset

    return Dataset.from_file(str(table / "prompts.arrow")).select_columns(["pictures"]).data
