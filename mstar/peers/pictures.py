"""Pictures for others: named by their path, or put into the row."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Final

from PIL import Image

from mstar.prompts.images import FileImage
from mstar.prompts.table_prompts import EmbeddedImage
from mstar.types import ImageReference

# Of pictures that are no files of their own.
FOLDER: Final = "images"
_JPEG: Final = b"\xff\xd8\xff"


class Pictures:
    """The pictures of an export.

    Args:
        folder: Where the export is being written; it is there.
        final: Where it will be: paths are absolute, so that they hold wherever the peer is started.
        some: Whether any row has one.
    """

    def __init__(self, folder: Path, final: Path, some: bool = True) -> None:
        self.folder = folder
        self.some = some
        self.final = final.resolve()

    def path(self, image: ImageReference) -> str:
        """Where a picture is: its own file, or a PNG in the export of what the policy was shown.

        A PNG has what is generated, is inside a data set, or looks otherwise in its file: by a turn that the camera
        noted (EXIF), pixels beyond the limits, transparency, or more than 8 bits. Not every peer's reader minds these.

        Raises:
            DataError: it is missing, or cannot be decoded.
        """
        identity = image.uri
        if isinstance(image, FileImage):
            if image.is_shown_as_stored():
                return str(image.locate())
            # Two folders may have a file of the same name, and two sources other limits for the same file.
            identity = f"{image.locate()} {image.limits}"
        elif isinstance(image, EmbeddedImage):
            # Two data sets may have a prompt of the same id.
            identity = f"{image.table} {image.index} {image.place} {image.limits}"
        name = hashlib.blake2b(identity.encode(errors="surrogatepass"), digest_size=12).hexdigest() + ".png"
        target = self.folder / FOLDER / name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(_png(image.load()))
        return str(self.final / FOLDER / name)

    def content(self, image: ImageReference) -> dict[str, bytes | str | None]:
        """A picture as ``datasets`` keeps it in a row: as the policy was shown it, its own JPEG where that is the same.

        Raises:
            DataError: it is missing, or cannot be decoded.
        """
        decoded = image.load()
        if isinstance(image, FileImage) and image.is_shown_as_stored():
            data = image.locate().read_bytes()
            if data.startswith(_JPEG):
                return {"bytes": data, "path": None}
        return {"bytes": _png(decoded), "path": None}


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
