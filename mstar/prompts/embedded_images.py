"""Pictures whose bytes are in the data: in a row of the table of its prompts, or where ``datasets`` has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from mstar.errors import DataError
from mstar.prompts.images import PixelLimits, decode_image
from mstar.prompts.prompt_table import Convert

__all__ = ["DatasetPictures", "EmbeddedImage", "PictureStore", "TablePictures"]


class PictureStore(Protocol):
    """Where the bytes of pictures are that are not files."""

    def read(self, index: int, place: int) -> bytes:
        """The bytes of a picture.

        Args:
            index: The prompt's row in the table.
            place: The picture's number in the prompt.
        """


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """A picture whose bytes are in the data set.

    Attributes:
        uri: ``<prompt id>#<number of the picture>``.
        store: Where the bytes are.
        index: The prompt's row in the table.
        place: The picture's number in the prompt.
        limits: How many pixels the decoded picture has.
    """

    uri: str
    store: PictureStore
    index: int
    place: int
    limits: PixelLimits

    def load(self) -> Image.Image:
        """Decodes the picture upright to RGB, transparent parts on white.

        Raises:
            DataError: it is no whole picture, or has too many pixels.
        """
        return decode_image(self.store.read(self.index, self.place), self.uri, self.limits)


class TablePictures:
    """The pictures whose bytes are in a table; opened when the first is read, and sent to a process by its path.

    Args:
        folder: The table's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._column: Any = None

    def __reduce__(self) -> tuple[type[TablePictures], tuple[Path]]:
        return TablePictures, (self.folder,)

    def read(self, index: int, place: int) -> bytes:
        """The bytes of one picture; see ``PictureStore``."""
        if self._column is None:
            from datasets import Dataset

            self._column = Dataset.from_file(str(self.folder / "prompts.arrow")).select_columns(["pictures"]).data
        [row] = self._column.fast_slice(index, 1).to_pylist()
        picture: bytes = row["pictures"][place]
        return picture


class DatasetPictures:
    """The pictures in the rows of a ``datasets.Dataset``.

    Args:
        data: The data set.
        convert: Makes a record of a row of it.
        folder: The folder of the table whose rows are asked for.
    """

    def __init__(self, data: Any, convert: Convert, folder: Path) -> None:
        self.data = data
        self.convert = convert
        self.folder = folder
        self._numbers: Any = None

    def __reduce__(self) -> tuple[type[DatasetPictures], tuple[Any, Convert, Path]]:
        return DatasetPictures, (self.data, self.convert, self.folder)

    def read(self, index: int, place: int) -> bytes:
        """The bytes of one picture; see ``PictureStore``."""
        if self._numbers is None:
            from datasets import Dataset

            table = Dataset.from_file(str(self.folder / "prompts.arrow"))
            self._numbers = table.data.column("row").to_numpy()
        picture = self.convert(self.data[int(self._numbers[index])]).images[place]
        if isinstance(picture, str):
            raise DataError(f"picture {place} of row {index} is a path, and its bytes were expected.")
        return picture
