"""Hashes that tell which pictures are the same and which look alike."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from mstar.evaluation.picture_hashes import PictureHashes, difference_hash, meeting_pictures, pixel_hash


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((120, 90), Image.Resampling.BICUBIC)


def hashed(*pictures: Image.Image) -> PictureHashes:
    return PictureHashes.of([(pixel_hash(image), difference_hash(image)) for image in pictures])


def test_pictures_meet_with_the_same_one_first() -> None:
    shown, other = picture(1), picture(2)
    smaller = shown.resize((97, 73))
    met = list(meeting_pictures(hashed(other, shown), hashed(smaller, picture(3), shown), max_distance=10))
    assert [(i, j) for i, j, _ in met] == [(1, 2), (1, 0)]
    assert met[0][2] == 0
    assert 0 <= met[1][2] <= 10
    assert list(meeting_pictures(hashed(), hashed(shown), 10)) == []
    assert list(meeting_pictures(hashed(shown), hashed(), 10)) == []


def test_random_pictures_are_far_apart() -> None:
    hashes = [difference_hash(picture(seed)) for seed in range(60)]
    distances = [int(np.bitwise_count(a ^ b).sum()) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) > 50


def test_hashes_do_not_depend_on_the_file() -> None:
    image = picture(7)
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    assert pixel_hash(Image.open(buffer)) == pixel_hash(image) != pixel_hash(picture(8))
    assert pixel_hash(image.resize((60, 45))) != pixel_hash(image)
    palette = image.convert("P")
    assert np.bitwise_count(difference_hash(palette) ^ difference_hash(image)).sum() <= 20
