"""Pictures that are files, their decoding, and pictures found again by their URI."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mstar.errors import ConfigError, DataError, require_least
from mstar.file_faults import find_fault
from mstar.prompts.charts import ChartImage
from mstar.prompts.digits import DigitsImage
from mstar.prompts.generated import GeneratedImage
from mstar.prompts.tiny_dice import TinyDiceImage

# Pictures that are drawn and not stored, by what their URI begins with.
_GENERATED: Final[dict[str, type[GeneratedImage]]] = {
    kind.task: kind for kind in (TinyDiceImage, ChartImage, DigitsImage)
}
_GENERATED_URI: Final = re.compile(r"[a-z-]+:([a-z]+)/(-?[0-9]{1,18})/([0-9]{1,18})")
# How pictures are named whose bytes are in a data set or in a benchmark's file.
_EMBEDDED: Final = re.compile(r".+#[0-9]+(\.[0-9]+)?", re.DOTALL)
# What Pillow's decoders are known to raise on damaged files.
_DAMAGE: Final = (
    OSError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)  # without slots: jsonargparse reads a default's vars()
class PixelLimits:
    """How many pixels a decoded picture has; it is scaled with its proportions kept, for generation and training alike.

    Args:
        minimum: Pictures with fewer pixels are enlarged to about this many; none leaves them as they are.
        maximum: Pictures with more pixels are reduced to at most this many; none leaves them as they are.

    Raises:
        ConfigError: a limit is below 1, or the minimum is above the maximum.
    """

    minimum: int | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        require_least("pixels.", minimum=self.minimum, maximum=self.maximum)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ConfigError(f"pixels.minimum {self.minimum} is above pixels.maximum {self.maximum}; swap them.")

    def apply(self, image: Image.Image) -> Image.Image:
        """The picture itself if it is within the limits, else a scaled copy."""
        width, height = image.size
        area = width * height
        if self.maximum is not None and area > self.maximum:
            factor = math.sqrt(self.maximum / area)
            # A side that would vanish stays 1 pixel long; then the other one alone must fit.
            size = [min(max(1, math.floor(side * factor)), self.maximum) for side in (width, height)]
        elif self.minimum is not None and area < self.minimum:
            factor = math.sqrt(self.minimum / area)
            size = [math.ceil(side * factor) for side in (width, height)]
        else:
            return image
        return image.resize((size[0], size[1]), Image.Resampling.BICUBIC)


NO_LIMITS: Final = PixelLimits()


@dataclass(frozen=True, slots=True)
class FileImage:
    """A picture in a file below a folder.

    Attributes:
        path: The file, relative to ``root``; it must not lead out of it, not by a symbolic link either.
        linked: Further folders that links may lead into.
    """

    path: str
    root: str
    limits: PixelLimits = NO_LIMITS
    linked: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """The path relative to ``root``, so that a run directory names the same picture on any machine."""
        return self.path

    @property
    def num_bytes(self) -> int | None:
        """How large the file is; None if it is not there."""
        try:
            return Path(self.root, self.path).stat().st_size
        except (OSError, ValueError):
            # What is wrong with the file is said when it is loaded.
            return None

    def locate(self) -> Path:
        """The file itself, links followed.

        Raises:
            DataError: it leads out of ``root``, or is missing.
        """
        location = Path(self.root, self.path)
        try:
            resolved = location.resolve()
            inside = any(resolved.is_relative_to(Path(folder).resolve()) for folder in (self.root, *self.linked))
            found = resolved.is_file() if inside else False
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of symbolic links
            raise DataError(f"The image path {str(location)!r} cannot be used: {error}.") from error
        if not inside:
            raise DataError(
                f"The image '{self.path}' leads out of the image folder '{self.root}', to '{resolved}': move it there, "
                "or name its folder as image_root (a source of prompts takes a list of both)."
            )
        if not found:
            raise DataError(f"The image '{location}' does not exist, or is not a file; check the image folder.")
        return resolved

    def is_shown_as_stored(self) -> bool:
        """Whether every reader sees what ``load`` returns: upright as it is, within the limits, RGB or grey."""
        location = self.locate()
        try:
            with Image.open(location) as image:
                turn = image.getexif().get(ExifTags.Base.Orientation, 1)
                plain = image.mode in ("RGB", "L") and image.format != "EPS" and not image.has_transparency_data
                return turn == 1 and plain and self.limits.apply(image) is image
        except _DAMAGE:
            self.load()
            return False

    def load(self) -> Image.Image:
        """Decodes the file upright to RGB, transparent parts on white."""
        return decode_image(self.locate(), str(Path(self.root, self.path)), self.limits)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """A picture that is decoded already; for as long as a batch is made of it."""

    uri: str
    image: Image.Image

    def load(self) -> Image.Image:
        """The picture."""
        return self.image


def decode_image(source: Path | bytes, name: str, limits: PixelLimits = NO_LIMITS) -> Image.Image:
    """Decodes a file, or a file's content, upright to RGB, transparent parts on white; ``name`` is for the error.

    Raises:
        DataError: it is no whole picture, or has too many pixels.
    """
    try:
        return limits.apply(_decode(source if isinstance(source, Path) else io.BytesIO(source)))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise DataError(
            f"The image '{name}' has more than {most} pixels and is not decoded; make it smaller."
        ) from error
    except _DAMAGE as error:
        if isinstance(source, Path) and (fault := find_fault(source)) is not None:
            raise DataError(f"The image '{name}' cannot be decoded: it {fault}.") from error
        # Pillow's own words for that name the object in memory that was read.
        reason = "it is no picture that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"The image '{name}' cannot be decoded ({reason}); replace or remove it.") from error


def open_image(uri: str, root: str = ".") -> Image.Image:
    """Loads a picture by the URI that a run directory holds.

    Args:
        uri: ``<task>:<split>/<seed>/<index>`` for a generated picture of the task ``tiny-dice``, ``charts`` or
            ``digits``, else a path relative to ``root``.
        root: The folder of the picture files.

    Raises:
        DataError: the picture does not exist or cannot be decoded.
    """
    task, colon, _ = uri.partition(":")
    if not colon or task not in _GENERATED:
        if _EMBEDDED.fullmatch(uri) and not Path(root, uri).exists():
            raise DataError(
                f"The picture '{uri}' is inside the data set, not in a file of its own, and the data set is not found."
            )
        return FileImage(uri, root).load()
    kind = _GENERATED[task]
    match = _GENERATED_URI.fullmatch(uri)
    if match is None or match[1] not in kind.splits:
        raise DataError(f"'{uri}' names no generated picture; the form is {task}:<split>/<seed>/<index>.")
    return kind(match[1], int(match[2]), int(match[3])).load()


def _decode(source: Path | io.BytesIO) -> Image.Image:
    with Image.open(source) as image:
        if image.format == "EPS":
            raise ValueError("it is PostScript, a program that Pillow would have Ghostscript run")
        # Pillow itself only warns up to twice this size.
        if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        # Conversion to 8 bits would clip at 255 instead of scaling.
        upright = upright.point(lambda value: value / 256).convert("L")
    elif upright.mode == "I":
        # 16 bits in a 32-bit mode, unless no value needs them.
        wide = max(np.asarray(upright).max(), 0) > 255
        upright = (upright.point(lambda value: value / 256) if wide else upright).convert("L")
    elif upright.mode == "F":
        raise ValueError("its pixels are floating-point numbers on a scale that it does not name")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    canvas = Image.new("RGBA", layer.size, "white")
    canvas.alpha_composite(layer)
    return canvas.convert("RGB")
