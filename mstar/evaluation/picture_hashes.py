"""Pictures that are the same or look alike, by hashes of their decoded pixels.

Shapes: I some pictures, J others, W 64-bit words of a difference hash.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

HashBits = npt.NDArray[np.uint64]

_SIDE: Final = 16
_WORDS: Final = _SIDE * _SIDE // 64
_FLAT: Final = 8
_PAIRS: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class PictureHashes:
    """The hashes of some pictures.

    Attributes:
        pixels: For every picture, the hash of its pixels.
        bits_IW: For every picture, the words of its difference hash.
    """

    pixels: tuple[str, ...]
    bits_IW: HashBits

    @classmethod
    def of(cls, hashes: Sequence[tuple[str, HashBits]]) -> PictureHashes:
        """Those of pictures whose hashes are known one by one."""
        bits_IW = np.array([bits for _, bits in hashes], dtype=np.uint64).reshape(-1, _WORDS)
        return cls(tuple(pixels for pixels, _ in hashes), bits_IW)


def pixel_hash(image: Image.Image) -> str:
    """A hash of the size and the RGB pixels: equal for one picture in two lossless formats."""
    pixels = image.convert("RGB")
    return hashlib.blake2b(repr(pixels.size).encode() + pixels.tobytes(), digest_size=16).hexdigest()


def difference_hash(image: Image.Image) -> HashBits:
    """The 256 bits that say where the picture, reduced to 17 x 16 grey pixels, gets darker to the right; four words."""
    # In two steps: convert first, because palettes cannot be averaged.
    grey = np.asarray(image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS), dtype=np.int16)
    return np.packbits(grey[:, :-1] > grey[:, 1:]).view(np.uint64)


def meeting_pictures(some: PictureHashes, others: PictureHashes, max_distance: int) -> Iterator[tuple[int, int, int]]:
    """Numbers of the pictures that are the same or similar, with their distance; the same first for each of ``some``.

    Args:
        max_distance: Differing bits, of 256, up to which pictures count as similar.
    """
    if not some.pixels or not others.pixels:
        return
    by_pixels: dict[str, list[int]] = defaultdict(list)
    for j, pixels in enumerate(others.pixels):
        by_pixels[pixels].append(j)
    # Nearly flat pictures have nearly no bits set, so that all of them would be similar to each other: the distance
    # that counts as similar shrinks with the bits that are set.
    set_I = np.bitwise_count(some.bits_IW).sum(axis=1).astype(np.int64)
    set_J = np.bitwise_count(others.bits_IW).sum(axis=1).astype(np.int64)
    step = max(1, _PAIRS // len(others.pixels))
    for start in range(0, len(some.pixels), step):
        part = some.bits_IW[start : start + step]
        distance = np.zeros((len(part), len(others.pixels)), dtype=np.int64)
        for word in range(_WORDS):
            distance += np.bitwise_count(part[:, None, word] ^ others.bits_IW[None, :, word])
        fewest = np.minimum(set_I[start : start + step, None], set_J[None, :])
        similar = (distance <= np.minimum(max_distance, fewest // _FLAT)) & (fewest >= _FLAT)
        for row in range(len(part)):
            exact = by_pixels.get(some.pixels[start + row], [])
            near = np.flatnonzero(similar[row])
            for j in [*exact, *(int(j) for j in near if int(j) not in exact)]:
                yield start + row, j, int(distance[row, j])
